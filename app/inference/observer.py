"""What the parts tell of their work, to whoever counts it. They know nobody of those."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

Stage = Literal["support", "faces", "network"]
"""Getting the support set ready, decoding and finding faces, encoding and scoring"""
FrameOutcome = Literal["scored", "no_face", "unreadable", "overloaded", "rate_limited", "failed", "dropped"]


def _nobody(*_: object) -> None:
    pass


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observer:
    """By default nobody listens. Each is called on the thread that works: it is quick and never raises."""

    batch_taken: Callable[[str, int], None] = _nobody
    """(queue, jobs): a batch of so many jobs is worked on"""
    queue_was_full: Callable[[str], None] = _nobody
    """(queue): work was refused"""
    stage_ended: Callable[[Stage, float], None] = _nobody
    """(stage, seconds): a request has gone through a stage"""
    face_not_found: Callable[[], None] = _nobody
    image_unreadable: Callable[[], None] = _nobody
    frames_ended: Callable[[FrameOutcome, int], None] = _nobody
    """(outcome, frames): what became of frames of a stream"""
