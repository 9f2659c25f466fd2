"""More images than one request takes, with a transport in place of a service that limits its requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from csrn_client import Client, ClientError, InvalidImage, ServiceProblem
from csrn_client.images import Upload
from csrn_client.splitting import Batch, batches
from tests.support.limited_service import LimitedService


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def test_a_batch_is_limited_in_images_and_bytes() -> None:
    files = [Upload(name="", content=bytes(size)) for size in (4, 4, 4, 9, 1, 1, 1, 1)]
    split = list(batches(files, max_images=3, max_bytes=8))
    assert [batch.start for batch in split] == [0, 2, 3, 4, 7]
    assert [item for batch in split for item in batch.uploads] == files
    with pytest.raises(InvalidImage, match="no image was given"):
        list(batches([]))


def test_the_halves_of_a_batch_are_consecutive() -> None:
    files = [Upload(name=str(index), content=b"") for index in range(5)]
    first, second = Batch(start=7, uploads=files).halves()
    assert (first.indices, second.indices) == (slice(7, 9), slice(9, 12))
    assert [*first.uploads, *second.uploads] == files


def test_many_images_are_added_in_several_requests_with_their_own_labels_and_indices() -> None:
    service = LimitedService()
    images = [b"no" if index in (3, 70) else b"%d" % index for index in range(150)]
    pairs = [(f"class {index}", image) for index, image in enumerate(images)]
    answer = Client(transport=service).add_support("s", pairs)
    assert service.sizes == [64, 64, 22]
    expected = [index for index in range(150) if index not in (3, 70)]
    assert [example.index for example in answer.added] == expected
    assert all(example.label == f"class {example.index}" for example in answer.added)
    assert [(image.index, image.filename) for image in answer.rejected] == [(3, "3"), (70, "70")]


def test_many_images_of_one_class_keep_their_ids() -> None:
    service, ids = LimitedService(), [f"id-{index}" for index in range(70)]
    answer = Client(transport=service).add_examples("s", "a", numbered(70), example_ids=ids)
    assert service.sizes == [64, 6]
    assert [example.example_id for example in answer.added] == ids
    with pytest.raises(InvalidImage, match="send one example id for each image: 70 images, 64 ids"):
        Client(transport=service).add_examples("s", "a", numbered(70), example_ids=ids[:64])


def test_many_images_are_classified_in_several_requests_and_one_answer() -> None:
    service = LimitedService()
    answer = Client(transport=service).classify(
        "s", (image for image in numbered(130)), top_k=2, regions=True
    )
    assert [(result.index, result.filename) for result in answer.results] == [
        (index, str(index)) for index in range(130)
    ]
    assert answer.timings_ms == {"faces": 6.0, "network": 3.0}
    assert all(request["top_k"] == [("", b"2")] for request in service.requests)
    assert all(request["regions"] == [("", b"true")] for request in service.requests)


def test_images_are_read_when_it_is_their_turn() -> None:
    service = LimitedService(fails_at=0)

    def endless() -> Any:
        while True:
            yield b"image"

    with pytest.raises(ServiceProblem):
        Client(transport=service).classify("s", endless())


def test_the_support_set_of_a_stateless_query_is_sent_with_every_request() -> None:
    service = LimitedService()
    support = [("a", b"%d" % index) for index in range(14)]
    answer = Client(transport=service).classify_stateless(support, numbered(120))
    assert service.sizes == [50, 50, 20]
    assert all(len(request["support"]) == len(request["labels"]) == 14 for request in service.requests)
    assert len(answer.results) == 120


def test_a_support_set_that_leaves_no_room_for_images_is_sent_once() -> None:
    service = LimitedService()
    with pytest.raises(ServiceProblem) as raised:
        Client(transport=service).classify_stateless([("a", b"1")] * 64, numbered(9))
    assert (raised.value.code, service.sizes) == ("body_too_large", [9])


def test_a_service_with_lower_limits_gets_smaller_requests() -> None:
    service = LimitedService(max_images=20)
    answer = Client(transport=service).add_support("s", [("a", image) for image in numbered(70)])
    assert [example.example_id for example in answer.added] == [str(index) for index in range(70)]
    assert service.sizes == [64, 32, 16, 16, 32, 16, 16, 6]


def test_one_image_that_is_too_large_does_not_stop_the_others() -> None:
    images = [b"0", b"1", b"huge", b"3"]
    client = Client(transport=LimitedService())
    answer = client.add_examples("s", "a", images)
    assert [example.index for example in answer.added] == [0, 1, 3]
    assert [(image.index, image.code) for image in answer.rejected] == [(2, "body_too_large")]
    results = client.classify("s", images).results
    assert [result.error and result.error.code for result in results] == [None, None, "body_too_large", None]
    with pytest.raises(ServiceProblem) as raised:
        client.classify("s", b"huge")
    assert raised.value.code == "body_too_large"


def test_a_request_of_only_rejected_images_does_not_stop_the_others() -> None:
    images = numbered(64) + [b"no"] * 3
    answer = Client(transport=LimitedService()).add_support("s", [("a", image) for image in images])
    assert len(answer.added) == 64
    assert [(image.index, image.code) for image in answer.rejected] == [(64 + i, "no_face") for i in range(3)]
    answer = Client(transport=LimitedService()).add_support("s", [("a", image) for image in reversed(images)])
    assert [example.index for example in answer.added] == [*range(3, 67)]


def test_all_images_rejected_in_several_requests_are_one_error() -> None:
    client = Client(transport=LimitedService())
    with pytest.raises(ServiceProblem) as raised:
        client.add_examples("s", "a", [b"no"] * 70)
    assert raised.value.code == "no_face"
    assert [image.index for image in raised.value.problem.rejected or []] == [*range(70)]
    with pytest.raises(ServiceProblem) as raised:
        client.add_examples("s", "a", [b"no", b"huge"])
    assert raised.value.code == "no_example_added"
    assert [image.code for image in raised.value.problem.rejected or []] == ["no_face", "body_too_large"]


def test_unreadable_images_have_an_error_whatever_the_requests_they_are_in() -> None:
    images = [*numbered(63), b"bad", b"bad", b"bad"]
    results = Client(transport=LimitedService()).classify("s", images).results
    assert [result.index for result in results if result.error] == [63, 64, 65]
    assert {result.error.code for result in results if result.error} == {"image_unreadable"}
    with pytest.raises(ServiceProblem) as raised:
        Client(transport=LimitedService()).classify("s", [b"bad"] * 70)
    assert raised.value.code == "image_unreadable"


def test_a_failure_says_what_the_requests_before_it_added() -> None:
    client = Client(transport=LimitedService(fails_at=2))
    with pytest.raises(ServiceProblem) as raised:
        client.add_support("s", [("a", image) for image in numbered(150)])
    assert raised.value.code == "class_limit"
    assert raised.value.added is not None
    assert [example.index for example in raised.value.added.added] == [*range(128)]
    with pytest.raises(ClientError) as first:
        Client(transport=LimitedService(fails_at=0)).add_support("s", [("a", b"image")])
    assert first.value.added is None


def test_a_failure_has_the_results_of_the_requests_before_it() -> None:
    with pytest.raises(ServiceProblem) as raised:
        Client(transport=LimitedService(fails_at=1)).classify("s", numbered(150))
    assert raised.value.results is not None
    assert [result.index for result in raised.value.results.results] == [*range(64)]


def test_nothing_is_sent_if_an_image_to_add_cannot_be_read() -> None:
    service = LimitedService()
    with pytest.raises(FileNotFoundError):
        Client(transport=service).add_support("s", [*[("a", b"image")] * 100, ("a", "missing.jpg")])
    assert service.requests == []


def test_a_class_is_replaced_in_one_request() -> None:
    service = LimitedService(max_images=200)
    Client(transport=service).replace_class("s", "a", numbered(150))
    assert service.sizes == [150]


def test_a_call_without_images_is_refused() -> None:
    client = Client(transport=LimitedService())
    calls: list[Callable[[], object]] = [
        lambda: client.add_support("s", []),
        lambda: client.classify("s", iter([])),
        lambda: client.classify_stateless([], [b"image"]),
        lambda: client.replace_class("s", "a", []),
    ]
    for call in calls:
        with pytest.raises(InvalidImage, match="no image was given"):
            call()
