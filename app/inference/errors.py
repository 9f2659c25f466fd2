"""Why faces cannot be encoded or scored now.

InferenceError
├─ NoClasses         422  no_classes
├─ TooManyFaces      413  body_too_large
├─ QueueFull         429  overloaded
│  └─ DeviceFull     429  overloaded
└─ WorkLost          500  internal_error
   ├─ DeviceLost     500  internal_error
   └─ ReadingFailed  500  internal_error
"""

from __future__ import annotations

from model.errors import CsrnError


class InferenceError(CsrnError):
    """Base class of the errors of inference."""


class NoClasses(InferenceError):
    code, status, title = "no_classes", 422, "The session has no class to compare with"


class TooManyFaces(InferenceError):
    """The images of one request show more faces than one answer may hold."""

    code, status, title = "body_too_large", 413, "The request is too large"


class QueueFull(InferenceError):
    code, status, title = "overloaded", 429, "Too much is in progress or waiting: try again shortly"


class DeviceFull(QueueFull):
    """The device has too little free memory for this work."""


class WorkLost(InferenceError):
    """A worker thread died or is stuck, so this work will never finish. The service is about to restart."""


class DeviceLost(WorkLost):
    """The device failed, and no later work on it can succeed."""


class ReadingFailed(WorkLost):
    """Reading one image failed because of a fault in the service."""
