"""The Python client of CSRN Serve: `Client` for ordinary code, `AsyncClient` for asyncio.

    with Client("http://127.0.0.1:8000") as client:
        session = client.create_session(name="me")
        session.add_support([("smile", "smile.jpg"), ("wink", "wink.jpg")])
        face = session.classify("query.jpg").results[0].faces[0]
        print(face.predicted, face.scores[0].score)

Both have the same methods. `csrn_client.schemas` defines the types of their results, `Image` the kinds of
images that they take.
"""

from csrn_client.async_client import AsyncClient
from csrn_client.async_session import AsyncSession
from csrn_client.errors import (
    ClientError,
    InvalidImage,
    InvalidURL,
    InvalidValue,
    MissingPackage,
    ServiceProblem,
    ServiceUnreachable,
    UnexpectedResponse,
)
from csrn_client.images import Image
from csrn_client.sync_client import Client
from csrn_client.sync_session import Session

__all__ = [
    "AsyncClient",
    "AsyncSession",
    "Client",
    "ClientError",
    "Image",
    "InvalidImage",
    "InvalidURL",
    "InvalidValue",
    "MissingPackage",
    "ServiceProblem",
    "ServiceUnreachable",
    "Session",
    "UnexpectedResponse",
]
