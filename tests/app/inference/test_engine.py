from __future__ import annotations

import asyncio
import dataclasses
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from app.inference.engine import MAX_FACES, Engine, SupportFace, Timings, Upload
from app.inference.errors import DeviceFull, TooManyFaces
from app.inference.kept_support_sets import KeptSupportSets
from app.inference.network import ON_CPU, ON_GPU, FaceBatch, Sizes
from app.settings import Settings
from model.checkpoint import Checkpoint
from model.classifier import Classifier
from model.errors import CheckpointInvalid, ImageUnreadable, NoFace, SeveralFaces
from model.support_set import Example
from model.vision.face_search import MAX_FACES as MAX_FACES_OF_IMAGE
from model.vision.faces import Face
from tests.support.samples import EXPRESSIONS, no_face, sample_bytes, two_faces


def make_engine(checkpoint: Checkpoint) -> Engine:
    settings = Settings(face_threads=2, max_pixels=10**6, max_queued_images=99, max_batch_faces=16)
    kept = KeptSupportSets(max_bytes=0)
    return Engine(checkpoint, settings, encoder_dtype=torch.float32, kept=kept)


@pytest.fixture(scope="module")
def engine(checkpoint: Checkpoint) -> Iterator[Engine]:
    engine = make_engine(checkpoint)
    yield engine
    engine.close()


def uploads(*images: bytes) -> list[Upload]:
    return [Upload(filename=None, data=image) for image in images]


@pytest.fixture(scope="module")
def examples(engine: Engine) -> list[Example]:
    """Two of each expression"""
    labels = [expression for expression in EXPRESSIONS for _ in range(2)]
    images = [sample_bytes(label, index % 2) for index, label in enumerate(labels)]
    found = asyncio.run(engine.encode_support(uploads(*images)))
    return [
        Example(example_id=f"{label}{index}", label=label, features=face.features)
        for index, (label, face) in enumerate(zip(labels, found, strict=True))
        if isinstance(face, SupportFace)
    ]


def black_faces(count: int) -> FaceBatch:
    return FaceBatch(
        patches=np.zeros((count, 3, 64, 64, 3), dtype=np.uint8),
        points=np.zeros((count, 468, 2), dtype=np.float32),
    )


def test_each_support_image_is_one_encoded_face_or_an_error(engine: Engine) -> None:
    images = uploads(no_face(), sample_bytes("anger", 0), two_faces(), b"no image")
    found = asyncio.run(engine.encode_support(images))
    assert [type(outcome) for outcome in found] == [NoFace, SupportFace, SeveralFaces, ImageUnreadable]
    assert isinstance(found[1], SupportFace)
    face = FaceBatch.of([found[1].face])
    expected = engine.network.classifier.encode(face.patches, face.points)[0]
    np.testing.assert_allclose(found[1].features, expected, rtol=1e-2, atol=1e-3)
    assert [type(error) for error in asyncio.run(engine.encode_support(images[:1]))] == [NoFace]


def test_each_query_has_its_faces_with_scores_or_an_error(engine: Engine, examples: list[Example]) -> None:
    async def classify() -> Any:
        support = await engine.network.build_support_set(examples)
        images = uploads(b"no image", two_faces(), no_face(), sample_bytes("sadness", 0))
        found = await engine.classify(images, support, all_faces=True, timings=Timings())
        return *found, engine.network.classifier.score(support, examples[4].features[None])[0]

    unreadable, both, none, same, expected = asyncio.run(classify())
    assert isinstance(unreadable, ImageUnreadable)
    assert (len(both), none, len(same)) == (2, [], 1)
    ranked = same[0].scores.ranked()
    assert [score.label for score in ranked] == [score.label for score in expected]
    assert [score.score for score in ranked] == pytest.approx([score.score for score in expected], abs=1e-2)


def test_too_many_faces_in_one_request_are_refused_before_the_network_works(
    engine: Engine, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = uploads(b"a photo", b"another photo")

    async def classify(faces_per_image: int) -> list[int]:
        async def find_faces(images: Sequence[bytes], **_: Any) -> list[list[Face]]:
            return [faces for _ in images]

        async def score(faces: Sequence[Face], *_: Any, **__: Any) -> list[None]:
            scored.append(len(faces))
            return [None] * len(faces)

        scored: list[int] = []
        support = await engine.network.build_support_set(examples)
        (found,) = await engine.faces.find_single_faces([sample_bytes("anger", 0)])
        assert isinstance(found, list)
        faces = found * faces_per_image
        monkeypatch.setattr(engine.faces, "find_faces", find_faces)
        monkeypatch.setattr(engine.network, "score", score)
        try:
            await engine.classify(images, support, all_faces=True, timings=Timings())
        finally:
            assert sum(scored) <= MAX_FACES
            monkeypatch.undo()
        return scored

    assert asyncio.run(classify(MAX_FACES // 2)) == [MAX_FACES]
    with pytest.raises(TooManyFaces, match="the images show 514 faces"):
        asyncio.run(classify(MAX_FACES // 2 + 1))
    assert MAX_FACES >= MAX_FACES_OF_IMAGE, "one photo of a group can always be answered"


def test_the_event_loop_copies_no_patches_of_queries(
    engine: Engine, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    stack = FaceBatch.of

    def recording(faces: Sequence[Face]) -> FaceBatch:
        threads.append(threading.current_thread().name)
        return stack(faces)

    async def use() -> None:
        support = await engine.network.build_support_set(examples)
        (found,) = await engine.faces.find_faces([sample_bytes("anger", 0)])
        assert isinstance(found, list)
        monkeypatch.setattr(FaceBatch, "of", recording)
        await engine.network.score(found, support)

    asyncio.run(use())
    assert threads == ["device"]


def test_small_jobs_give_the_same_scores_as_large_ones(
    engine: Engine, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def compute() -> Any:
        support = await engine.network.build_support_set(examples)
        found = await engine.faces.find_faces([sample_bytes("anger", index) for index in range(3)])
        left_out = await engine.network.leave_one_out(support, examples)
        faces = [face for of_image in found if isinstance(of_image, list) for face in of_image]
        scored = await engine.network.score(faces, support)
        return [(one.example_id, one.predicted) for one in left_out], [one.ranked() for one in scored]

    left_out, scored = asyncio.run(compute())
    assert [example_id for example_id, _ in left_out] == [example.example_id for example in examples]
    monkeypatch.setattr(engine.network, "sizes", dataclasses.replace(engine.network.sizes, job_pairs=1))
    assert asyncio.run(compute()) == (left_out, scored)


def test_faces_of_requests_that_wait_are_encoded_together(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, sizes = threading.Event(), []
    encode = Classifier.encode_on_device

    def waiting(self: Classifier, patches: Any, points: Any) -> Any:
        go_on.wait(5)
        sizes.append(len(patches))
        return encode(self, patches, points)

    async def use() -> None:
        monkeypatch.setattr(Classifier, "encode_on_device", waiting)
        first = asyncio.ensure_future(engine.network.encode(black_faces(1)))
        await asyncio.sleep(0.05)
        others = [asyncio.ensure_future(engine.network.encode(black_faces(2))) for _ in range(4)]
        await asyncio.sleep(0)
        go_on.set()
        assert [len(features) for features in await asyncio.gather(first, *others)] == [1, 2, 2, 2, 2]

    asyncio.run(use())
    assert sizes == [1, 8]


def test_the_memory_of_a_failed_batch_is_free_before_its_jobs_run_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[Any]] = []
    alive = []

    def failing(self: Classifier, patches: Any, points: Any) -> Any:
        intermediate = np.zeros(3)
        alive.append(any(reference() is not None for reference in held))
        held.append(weakref.ref(intermediate))
        raise torch.OutOfMemoryError

    async def use() -> None:
        monkeypatch.setattr(Classifier, "encode_on_device", failing)
        jobs = [engine.network.encode(black_faces(1)) for _ in range(3)]
        outcomes = await asyncio.gather(*jobs, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [DeviceFull] * 3

    asyncio.run(use())
    assert len(alive) > 3
    assert not any(alive)


@pytest.mark.parametrize(("sizes", "batches"), [(ON_CPU, [1, 2]), (ON_GPU, [1, 2, 4, 8, 16])])
def test_the_warm_up_computes_everything_in_batches_of_each_size(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, sizes: Sizes, batches: list[int]
) -> None:
    """The sizes for a GPU run on the CPU here."""
    called: list[tuple[str, int]] = []

    def record(method: str) -> None:
        work = getattr(Classifier, method)

        def recording(self: Classifier, *args: Any) -> Any:
            called.append((method, len(args[0])))
            return work(self, *args)

        monkeypatch.setattr(Classifier, method, recording)

    for method in ("encode", "build_support_set", "relate", "classify"):
        record(method)
    monkeypatch.setattr(engine.network, "sizes", sizes)
    asyncio.run(engine.warm_up())
    assert [size for method, size in called if method == "encode"] == [1, *batches]
    assert [size for method, size in called if method == "classify"] == batches, "each of as many sessions"
    assert ("build_support_set", 4) in called
    assert ("relate", 2) in called, "leave-one-out"


def test_weights_that_give_no_numbers_are_refused(checkpoint: Checkpoint) -> None:
    network = checkpoint.config.build_network()
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, float("nan"))
    engine = make_engine(dataclasses.replace(checkpoint, network=network.eval()))
    with pytest.raises(CheckpointInvalid):
        asyncio.run(engine.warm_up())
    engine.close()
