"""The measurements that inference reports, without knowing who records them."""

from __future__ import annotations

from typing import Literal

Stage = Literal["support", "faces", "network"]
"""Preparing the support set; decoding images and finding faces; encoding and scoring"""
FrameOutcome = Literal["scored", "no_face", "unreadable", "overloaded", "rate_limited", "failed", "dropped"]


class Observer:
    """Ignores every measurement; a subclass records them.

    Worker threads call these methods between batches, so they must be fast and must not raise.
    """

    def batch_taken(self, queue: str, jobs: int) -> None:
        """A worker thread took a batch of jobs from a queue."""

    def queue_was_full(self, queue: str) -> None:
        """A full queue refused work."""

    def stage_ended(self, stage: Stage, seconds: float) -> None:
        """A request or a frame completed a stage, after this time including the wait in the queue."""

    def face_not_found(self) -> None:
        """An image or a frame shows no face."""

    def image_unreadable(self) -> None:
        """An image or a frame could not be decoded."""

    def frames_ended(self, outcome: FrameOutcome, frames: int) -> None:
        """Frames of a stream ended with this outcome."""
