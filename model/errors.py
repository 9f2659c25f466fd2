"""Everything that can go wrong with what a caller hands in.

Each class has a `code`, a short stable string that the HTTP API passes on to its clients. Messages
are written for the person who sent the input: they name no path, no library and no internal state.
"""

from __future__ import annotations


class CsrnError(Exception):
    """Base class of every error this project raises on purpose."""

    code = "error"


class ImageUnreadable(CsrnError):
    """The bytes are not a JPEG, PNG or WebP image, or a damaged one."""

    code = "image_unreadable"


class NoFace(CsrnError):
    """No face was found in an image that must show one."""

    code = "no_face"


class SeveralFaces(CsrnError):
    """An image that must show one face shows several of similar size."""

    code = "several_faces"


class CheckpointInvalid(CsrnError):
    """A weight file is damaged, of another format, or of other shapes than its config says."""

    code = "checkpoint_invalid"


class DatasetInvalid(CsrnError):
    """A data set is not laid out as expected."""

    code = "dataset_invalid"


class RunMismatch(CsrnError):
    """The run folder holds a training run of other images, settings or code."""

    code = "run_mismatch"


class EpisodeImpossible(CsrnError):
    """An episode asks for more classes or images than the data set has."""

    code = "episode_impossible"


class DeviceMissing(CsrnError):
    """The device that was asked for is not there."""

    code = "device_missing"
