"""The root of all errors that this project raises on purpose, and those of the model.

    CsrnError
    ├─ ImageUnreadable      400  image_unreadable
    ├─ NoFace               422  no_face
    ├─ SeveralFaces         422  several_faces
    ├─ CheckpointInvalid         the weight file cannot be used
    ├─ DatasetInvalid            the data set cannot be read
    ├─ RunMismatch               the run folder belongs to another training run
    ├─ EpisodeImpossible         too few classes or images for an episode
    ├─ DeviceMissing             the device does not exist
    ├─ SessionError              app.sessions.errors
    ├─ InferenceError            app.inference.errors
    ├─ AccessError               app.access.errors
    └─ RequestError              app.api.errors

The service sends the message of an error to its client if the status is below 500, so those messages name no
path, library or internal state. Of other errors it sends the title and logs the message.
"""

from __future__ import annotations

from typing import ClassVar


class CsrnError(Exception):
    """Base class of every error that this project raises on purpose."""

    code: ClassVar[str] = "internal_error"
    """Short, stable name of the error for programs"""
    status: ClassVar[int] = 500
    """HTTP status of the error where the service answers with it"""
    title: ClassVar[str] = "The service failed: try again, or ask its operator"
    """One sentence for people, the same for every error of this code"""
    retry_after_s: int = 1
    """Seconds after which a request can be sent again that failed with status 429 or 503"""

    def __str__(self) -> str:
        return super().__str__() or self.title


class ImageUnreadable(CsrnError):
    """The bytes are not a JPEG, PNG or WebP image, or the image is damaged."""

    code, status, title = "image_unreadable", 400, "The image cannot be read"


class NoFace(CsrnError):
    """No face was found in an image that must show one."""

    code, status, title = "no_face", 422, "No face was found"


class SeveralFaces(CsrnError):
    """An image that must show one face shows several of similar size."""

    code, status, title = "several_faces", 422, "More than one face was found"


class CheckpointInvalid(CsrnError):
    """A weight file is damaged, has another format, or its tensors do not fit its config."""


class DatasetInvalid(CsrnError):
    """A data set is not laid out as expected."""


class RunMismatch(CsrnError):
    """The run folder holds a training run with other images, settings or code."""


class EpisodeImpossible(CsrnError):
    """An episode needs more classes or images than the data set has."""


class DeviceMissing(CsrnError):
    """The requested device does not exist."""
