"""Every error that the client raises.

ClientError
├── InvalidURL
├── ServiceUnreachable
├── UnexpectedResponse
└── ServiceProblem

A method that is given the path of an image raises OSError if it cannot read the file.
"""

from __future__ import annotations

from csrn_client.schemas import Problem


class ClientError(Exception):
    """Base class of every error of the client."""


class InvalidURL(ClientError):
    """The client was given an address that is not http:// or https://."""


class ServiceUnreachable(ClientError):
    """No response arrived: no connection, a lost connection or a timeout. `__cause__` is the httpx error."""


class UnexpectedResponse(ClientError):
    """A response arrived that CSRN Serve does not send. It may come from a proxy or another server."""


class ServiceProblem(ClientError):
    """The service refused the request.

    `code` is the short name of the reason, such as `no_face`; `problem` is the whole answer.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem
        self.code = problem.code

    def __str__(self) -> str:
        return f"{self.problem.title}: {self.problem.detail}"
