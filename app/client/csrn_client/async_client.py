"""The calls of the HTTP API as methods. sync_client.py is generated from async_client.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from types import EllipsisType
from typing import Any

from csrn_client import schemas
from csrn_client.async_connection import AsyncConnection
from csrn_client.async_session import AsyncAdded, AsyncSession, AsyncSessionPage
from csrn_client.errors import InvalidImage
from csrn_client.images import File, Image, upload, uploads
from csrn_client.messages import Examples, changes, file_parts, given, labelled, session_path
from csrn_client.schemas import Class, Model, Quality, Results, StreamResult
from csrn_client.splitting import Additions, Classification, batches, one_batch
from csrn_client.streaming import AsyncFrames


class AsyncClient(AsyncConnection):
    """A running service. Every method can raise the errors of csrn_client.errors.

    Methods take a session or its id, and one image or several wherever they take images. `Image` says which
    kinds of images there are.
    """

    async def create_session(
        self,
        *,
        name: str | None = None,
        ttl_s: float | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> AsyncSession:
        """Create an empty session. The service deletes it after ttl_s seconds, or never without ttl_s."""
        body = {"name": name, "ttl_s": ttl_s, "metadata": dict(metadata or {})}
        return await self._ask(AsyncSession, "POST", "/v1/sessions", json=body)

    async def list_sessions(
        self, *, limit: int = 100, cursor: str | None = None, name: str | None = None
    ) -> AsyncSessionPage:
        """One page of the sessions, oldest first; with a name only the sessions of this name.

        Pass the page's next_cursor to get the next page, or use `iterate_sessions`.
        """
        query = given(limit=limit, cursor=cursor, name=name)
        return await self._ask(AsyncSessionPage, "GET", "/v1/sessions", params=query)

    async def iterate_sessions(self, name: str | None = None) -> AsyncIterator[AsyncSession]:
        """All sessions, oldest first; with a name only the sessions of this name."""
        cursor: str | None = None
        while True:
            page = await self.list_sessions(cursor=cursor, name=name)
            for session in page.sessions:
                yield session
            cursor = page.next_cursor
            if cursor is None:
                return

    async def get_session(self, session: schemas.Session | str) -> AsyncSession:
        """The session as it is now."""
        return await self._ask(AsyncSession, "GET", session_path(session))

    async def update_session(
        self,
        session: schemas.Session | str,
        *,
        name: str | EllipsisType | None = ...,
        ttl_s: float | EllipsisType | None = ...,
        metadata: Mapping[str, Any] | EllipsisType = ...,
    ) -> AsyncSession:
        """Change what is given, and nothing else. None removes the name, or keeps the session for ever.

        Args: ttl_s, counts from now; metadata, replaces all earlier metadata.
        """
        body = changes(name=name, ttl_s=ttl_s, metadata=metadata)
        return await self._ask(AsyncSession, "PATCH", session_path(session), json=body)

    async def delete_session(self, session: schemas.Session | str) -> None:
        await self._send("DELETE", session_path(session))

    async def add_support(self, session: schemas.Session | str, examples: Examples) -> AsyncAdded:
        """Add labelled images to any number of classes: pairs, or the images of each label.

            client.add_support(session, [("smile", "a.jpg"), ("wink", "b.jpg")])
            client.add_support(session, {"smile": Path("smile").glob("*.jpg"), "wink": "b.jpg"})

        More images than one request takes are sent in several requests. If one fails, the error's `added`
        says what the requests before it added.
        """
        labels, images = labelled(examples)
        additions: Additions[AsyncAdded] = Additions(batches([*uploads(images)]))
        return await self._ask_split(
            AsyncAdded,
            session_path(session, "support"),
            additions,
            lambda batch: {"labels": labels[batch.indices]},
        )

    async def add_examples(
        self,
        session: schemas.Session | str,
        label: str,
        images: Image | Iterable[Image],
        *,
        example_ids: Sequence[str] | None = None,
    ) -> AsyncAdded:
        """Add images to one class. Without example_ids, one for each image, the service chooses them.

        More images than one request takes are sent as in `add_support`.
        """
        sent = [*uploads(images)]
        if example_ids is not None and len(example_ids) != len(sent):
            counts = f"{len(sent)} images, {len(example_ids)} ids"
            raise InvalidImage(f"send one example id for each image: {counts}")
        additions: Additions[AsyncAdded] = Additions(batches(sent))
        return await self._ask_split(
            AsyncAdded,
            session_path(session, "classes", label, "examples"),
            additions,
            lambda batch: given(example_ids=example_ids and [*example_ids[batch.indices]]),
        )

    async def replace_class(
        self, session: schemas.Session | str, label: str, images: Image | Iterable[Image]
    ) -> AsyncAdded:
        """Replace all examples of a class in one step, and therefore in one request."""
        files = file_parts("images", one_batch(uploads(images)).uploads)
        return await self._ask(AsyncAdded, "PUT", session_path(session, "classes", label), files=files)

    async def get_class(self, session: schemas.Session | str, label: str) -> Class:
        return await self._ask(Class, "GET", session_path(session, "classes", label))

    async def update_class(
        self,
        session: schemas.Session | str,
        label: str,
        *,
        new_label: str | None = None,
        enabled: bool | None = None,
    ) -> Class:
        """Rename a class, or say whether queries are compared with it. It keeps its examples."""
        body = {"label": new_label, "enabled": enabled}
        return await self._ask(Class, "PATCH", session_path(session, "classes", label), json=body)

    async def delete_class(self, session: schemas.Session | str, label: str) -> None:
        await self._send("DELETE", session_path(session, "classes", label))

    async def delete_example(self, session: schemas.Session | str, label: str, example_id: str) -> None:
        await self._send("DELETE", session_path(session, "classes", label, "examples", example_id))

    async def classify(
        self,
        session: schemas.Session | str,
        images: Image | Iterable[Image],
        *,
        unknown_below: float | None = None,
        all_faces: bool = False,
        top_k: int | None = None,
        regions: bool = False,
    ) -> Results:
        """Score the face in each image against every class of the session.

            client.classify(session, "query.jpg").results[0].faces[0].predicted
            client.classify(session, Path("queries").glob("*.jpg"), top_k=2)

        More images than one request takes are sent in several requests. An image that cannot be read gets an
        `error` in its result, unless none can be read: then ServiceProblem is raised. If a later request
        fails, the error's `results` are the answers before it.

        Args: unknown_below, the threshold below which no class is predicted, by default the session's own;
            all_faces, whether to answer for every face in an image, not only for the largest;
            top_k, how many scores to return, best first, by default all;
            regions, whether to return the corners of the three patches of each face.
        """
        fields = given(
            unknown_below=unknown_below, all_faces=all_faces or None, top_k=top_k, regions=regions or None
        )
        classification = Classification(batches(uploads(images)))
        path = session_path(session, "classify")
        return await self._ask_split(Results, path, classification, lambda _: fields)

    async def classify_stateless(
        self,
        support: Examples,
        images: Image | Iterable[Image],
        *,
        unknown_below: float | None = None,
        all_faces: bool = False,
        top_k: int | None = None,
        regions: bool = False,
    ) -> Results:
        """Score images as `classify` does, but against labelled images instead of a session.

        The labelled images are sent with every request, so they must fit into one: use a session for more.
        """
        labels, examples = labelled(support)
        sent = one_batch(uploads(examples)).uploads
        fields = given(
            labels=labels,
            unknown_below=unknown_below,
            all_faces=all_faces or None,
            top_k=top_k,
            regions=regions or None,
        )
        classification, files = Classification.beside(sent, uploads(images)), file_parts("support", sent)
        return await self._ask_split(Results, "/v1/classify", classification, lambda _: fields, files)

    def stream(
        self,
        session: schemas.Session | str,
        frames: AsyncFrames,
        *,
        unknown_below: float | None = None,
        top_k: int | None = None,
        regions: bool = False,
    ) -> AsyncIterator[StreamResult]:
        """Classify the frames of a video one after the other, faster than by `classify`.

            for result in client.stream(session, frames):
                print(result.faces[0].predicted if result.faces else "no face")

        The next frame is taken when the one before is answered, so frames do not queue up. A face is
        followed from frame to frame. It needs websockets, which the extra `csrn-client[stream]` installs.
        A stream that ends early is not opened again.

        Args: as of `classify`. Raises: ServiceProblem if the service closes the stream, with the reason as
            its code, such as `idle` after 60 s without a frame; ServiceUnreachable if the connection is lost.
        """
        options = given(unknown_below=unknown_below, top_k=top_k, regions=regions or None)
        return self._stream(session_path(session, "stream"), frames, options)

    async def get_quality(self, session: schemas.Session | str) -> Quality:
        """How well each example of the session is recognised from all the other examples."""
        return await self._ask(Quality, "GET", session_path(session, "quality"))

    async def export_session(self, session: schemas.Session | str) -> bytes:
        """The session as the content of a safetensors file."""
        return (await self._send("GET", session_path(session, "export"))).content

    async def import_session(self, archive: File) -> AsyncSession:
        """Create a session from an exported file, given as its content, its path or a binary file."""
        kind = {"Content-Type": "application/octet-stream"}
        content = upload(archive).content
        return await self._ask(AsyncSession, "POST", "/v1/sessions/import", content=content, headers=kind)

    async def get_model(self) -> Model:
        """The weights that the service uses."""
        return await self._ask(Model, "GET", "/v1/model")
