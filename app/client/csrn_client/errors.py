"""Every error that the client raises.

ClientError
├── InvalidURL
├── InvalidValue
├── InvalidImage
├── MissingPackage
├── ServiceUnreachable
├── UnexpectedResponse
└── ServiceProblem

A method that is given the path of an image raises OSError if it cannot read the file.
"""

from __future__ import annotations

from csrn_client.schemas import Added, Problem, Results


class ClientError(Exception):
    """Base class of every error of the client.

    More images than one request takes are sent in several requests. If a later request fails, `added` is
    what the requests before it added, and `results` is what they answered.
    """

    added: Added | None = None
    results: Results | None = None


class InvalidURL(ClientError):
    """The client was given an address that is not http:// or https://."""


class InvalidValue(ClientError, ValueError):
    """The client was given a value that cannot be sent: an id or a label that cannot be part of an address,
    or a value that JSON cannot hold, such as infinity."""


class InvalidImage(ClientError, ValueError):
    """The client was given no image, or an object that it cannot send as an image."""


class MissingPackage(ClientError, ImportError):
    """A package that only some calls need is not installed. The message says how to install it."""


class ServiceUnreachable(ClientError):
    """No response arrived: no connection, a lost connection or a timeout. The message names the URL.

    `__cause__` is the error of httpx or websockets.
    """


class UnexpectedResponse(ClientError):
    """A response arrived that CSRN Serve does not send. It may come from a proxy or another server."""


class ServiceProblem(ClientError):
    """The service refused the request, or closed the stream.

    `code` is the short name of the reason, such as `no_face`; `problem` is the whole answer.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem
        self.code = problem.code

    def __str__(self) -> str:
        title, detail = self.problem.title, self.problem.detail
        return title if detail == title else f"{title}: {detail}"
