"""Turn pages with your face: an expression that was taught to a session triggers an action.

    python expression_control.py --session ID              the camera
    python expression_control.py --session ID *.jpg        photos instead of a camera

It needs csrn-client, and opencv for the camera. Both come with the service.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from csrn_client import Client

HOLD_FRAMES = 3
"""An expression counts when it was predicted in this many frames in a row: a face on its way to
one expression looks like others in between"""


class Pages:
    """Something to control. Replace it by what you like: a key press, a lamp, a game."""

    def __init__(self) -> None:
        self.number = 1

    def next(self) -> None:
        self.number += 1
        print(f"page {self.number}")

    def previous(self) -> None:
        self.number = max(1, self.number - 1)
        print(f"page {self.number}")


def camera_frames(camera: str) -> Iterator[bytes]:
    """Frames as JPEG files: of the webcam with a number, of a video file, or of a camera with an address."""
    import cv2

    video = cv2.VideoCapture(int(camera) if camera.isdecimal() else camera)
    if not video.isOpened():
        raise SystemExit(f"there is no camera {camera}")
    while True:
        success, frame = video.read()
        if not success:
            return
        yield cv2.imencode(".jpg", frame)[1].tobytes()


def held_expressions(predictions: Iterable[str | None]) -> Iterator[str]:
    """Each expression that is held long enough, once, until the face changes."""
    last, frames = None, 0
    for predicted in predictions:
        frames = frames + 1 if predicted == last else 1
        last = predicted
        if predicted is not None and frames == HOLD_FRAMES:
            yield predicted


def main() -> None:
    options = argparse.ArgumentParser(description="Turn pages with your face.")
    options.add_argument("photos", nargs="*", type=Path, help="photos to use instead of the camera")
    options.add_argument("--session", required=True, help="the id of a session that knows the expressions")
    options.add_argument("--url", default=os.environ.get("CSRN_URL", "http://127.0.0.1:8000"))
    options.add_argument("--camera", default="0", help="number, video file or address of the camera")
    options.add_argument("--next", default="happiness", help="the expression that turns to the next page")
    options.add_argument("--previous", default="surprise", help="the expression that turns back")
    chosen = options.parse_args()

    pages = Pages()
    actions: dict[str, Callable[[], None]] = {chosen.next: pages.next, chosen.previous: pages.previous}
    with Client(chosen.url, api_key=os.environ.get("CSRN_API_KEY")) as client:
        results = client.stream(chosen.session, chosen.photos or camera_frames(chosen.camera))
        predictions = (result.faces[0].predicted if result.faces else None for result in results)
        for expression in held_expressions(predictions):
            print(expression, end=": ")
            actions.get(expression, lambda: print("no action"))()


if __name__ == "__main__":
    main()
