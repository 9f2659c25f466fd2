"""Why a call of the session store, or the import of a session, can fail.

SessionError
├─ SessionNotFound     404  session_not_found
├─ ClassNotFound       404  class_not_found
├─ ExampleNotFound     404  example_not_found
├─ ExampleExists       409  example_exists
├─ ClassExists         409  class_exists
├─ SessionLimit        409  session_limit
├─ ByteLimit           409  byte_limit
├─ ClassLimit          409  class_limit
├─ ExampleLimit        409  example_limit
├─ ModelChanged        409  model_changed
├─ DuplicateImage      422  duplicate_image
├─ ArchiveInvalid      422  archive_invalid
└─ StoreUnavailable    503  not_ready
   ├─ SchemaUnknown    503  not_ready
   └─ StoreFull        507  storage_full
"""

from __future__ import annotations

from model.errors import CsrnError


class SessionError(CsrnError):
    """Base class of the errors about sessions."""


class SessionNotFound(SessionError):
    """The session does not exist, has expired, or belongs to another owner."""

    code, status, title = "session_not_found", 404, "The session does not exist or has expired"


class ClassNotFound(SessionError):
    code, status, title = "class_not_found", 404, "The session has no class with this label"


class ExampleNotFound(SessionError):
    code, status, title = "example_not_found", 404, "The class has no example with this id"


class ExampleExists(SessionError):
    code, status, title = "example_exists", 409, "The session already has an example with this id"


class ClassExists(SessionError):
    code, status, title = "class_exists", 409, "The session already has a class with this label"


class SessionLimit(SessionError):
    code, status, title = "session_limit", 409, "The key has as many sessions as allowed"


class ByteLimit(SessionError):
    code, status, title = "byte_limit", 409, "The key stores as many bytes as allowed"


class ClassLimit(SessionError):
    code, status, title = "class_limit", 409, "The session has as many classes as allowed"


class ExampleLimit(SessionError):
    code, status, title = "example_limit", 409, "The session has as many examples as allowed"


class ModelChanged(SessionError):
    """The examples of the session were encoded with other weights than the service uses."""

    code, status, title = "model_changed", 409, "The session was taught with other weights"


class DuplicateImage(SessionError):
    """The same bytes were added before, or come earlier in the same request."""

    code, status, title = "duplicate_image", 422, "The image is already an example of the session"


class ArchiveInvalid(SessionError):
    code, status, title = "archive_invalid", 422, "The file is not an exported session"


class StoreUnavailable(SessionError):
    """The database cannot be reached, or failed."""

    code, status, title = "not_ready", 503, "The service is not ready"


class SchemaUnknown(StoreUnavailable):
    """The database has tables that this release cannot use."""


class StoreFull(StoreUnavailable):
    """The disk, or its quota, has no room for the write. Reads and deletes still work."""

    code, status = "storage_full", 507
    title = "Nothing can be stored until sessions are deleted or expire"
