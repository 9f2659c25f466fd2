"""The Python client of CSRN Serve: `Client` for ordinary code, `AsyncClient` for asyncio.

    with Client("http://127.0.0.1:8000") as client:
        session = client.create_session(name="me")
        client.add_support(session.id, [("bored", Path("a.jpg")), ("thinking", Path("b.jpg"))])
        print(client.classify(session.id, [Path("c.jpg")]).results[0].faces[0].predicted)

Both have the same methods. `csrn_client.schemas` defines the types of their results.
"""

from csrn_client.async_client import AsyncClient
from csrn_client.errors import ClientError, InvalidURL, ServiceProblem, ServiceUnreachable, UnexpectedResponse
from csrn_client.messages import Image
from csrn_client.sync_client import Client

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "Image",
    "InvalidURL",
    "ServiceProblem",
    "ServiceUnreachable",
    "UnexpectedResponse",
]
