"""CSRN Serve from Python, sync (`Client`) and async (`AsyncClient`): typed answers, patient retries.

    with Client("http://127.0.0.1:8000") as client:
        session = client.create_session(name="me")
        client.add_support(session.id, [("bored", Path("a.jpg")), ("thinking", Path("b.jpg"))])
        print(client.classify(session.id, [Path("c.jpg")]).results[0].faces[0].predicted)

Both have the same methods; docs/client.md is the page about them.
"""

from app.client.aio import AsyncClient
from app.client.answering import ServiceProblem, ServiceUnreachable
from app.client.calls import Image
from app.client.sync import Client

__all__ = ["AsyncClient", "Client", "Image", "ServiceProblem", "ServiceUnreachable"]
