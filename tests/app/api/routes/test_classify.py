from __future__ import annotations

import concurrent.futures

import pytest
from fastapi.testclient import TestClient

from tests.support.api import assert_problem, image, sample
from tests.support.bombs import BOMBS
from tests.support.group_photos import group_photo
from tests.support.samples import EXPRESSIONS, encoded, no_face, sample_image, two_faces


def test_every_query_is_scored_for_every_class(client: TestClient, taught: str) -> None:
    files = [sample(expression, 5) for expression in EXPRESSIONS]
    body = client.post(f"{taught}/classify", files=files).json()
    assert body["model"] == {"weights_sha256": client.get(taught).json()["weights_sha256"]}
    assert [result["index"] for result in body["results"]] == [0, 1, 2, 3]
    for result in body["results"]:
        (face,) = result["faces"]
        assert "error" not in result
        scores = [score["score"] for score in face["scores"]]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)
        assert {score["label"] for score in face["scores"]} == set(EXPRESSIONS)
        assert all(set(score["parts"]) == {"face", "eyes", "lips", "prototype"} for score in face["scores"])
        assert face["predicted"] == face["scores"][0]["label"]
        assert face["margin"] == pytest.approx(scores[0] - scores[1])
        assert set(face["box"]) == {"x_min", "y_min", "x_max", "y_max"}
    assert {"faces", "network", "total"} <= body["timings_ms"].keys()


def test_classification_without_a_session_gives_the_scores_of_a_session(
    client: TestClient, taught: str
) -> None:
    support = [sample(e, i, "support") for e in EXPRESSIONS for i in range(2)]
    labels = [e for e in EXPRESSIONS for _ in range(2)]
    query = [sample("anger", 6)]
    stateless = client.post("/v1/classify", files=support + query, data={"labels": labels}).json()
    session = client.post(f"{taught}/classify", files=query).json()
    ours, theirs = (
        {score["label"]: score["score"] for score in body["results"][0]["faces"][0]["scores"]}
        for body in (stateless, session)
    )
    assert [*ours] == [*theirs]
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_regions_are_in_the_result_if_the_client_asks_for_them(client: TestClient, taught: str) -> None:
    path, query = f"{taught}/classify", [sample("anger", 5)]
    (plain,) = client.post(path, files=query).json()["results"][0]["faces"]
    assert plain.keys() == {"box", "predicted", "scores", "margin"}
    (face,) = client.post(path, files=query, data={"regions": "true"}).json()["results"][0]["faces"]
    centers = {
        part: [sum(side) / 4 for side in zip(*corners, strict=True)]
        for part, corners in face["regions"].items()
    }
    box = face["box"]
    for x, y in centers.values():
        assert box["x_min"] < x < box["x_max"]
        assert box["y_min"] < y < box["y_max"]
    assert centers["eyes"][1] < centers["face"][1] < centers["lips"][1]


def test_all_faces_scores_every_face_largest_first(client: TestClient, taught: str) -> None:
    query = [image(two_faces())]
    one = client.post(f"{taught}/classify", files=query).json()["results"][0]["faces"]
    both = client.post(f"{taught}/classify", files=query, data={"all_faces": "true"}).json()["results"][0]
    assert (len(one), len(both["faces"])) == (1, 2)
    assert both["faces"][0]["box"] == one[0]["box"]


def test_all_faces_finds_50_people_in_a_group_photo(client: TestClient, taught: str) -> None:
    query = [("images", ("group.jpg", group_photo(10, 5, 120), "image/jpeg"))]
    (result,) = client.post(f"{taught}/classify", files=query, data={"all_faces": "true"}).json()["results"]
    assert len(result["faces"]) == 50
    assert all(len(face["scores"]) == len(EXPRESSIONS) for face in result["faces"])


def test_a_query_without_a_face_has_no_faces(client: TestClient, taught: str) -> None:
    response = client.post(f"{taught}/classify", files=[image(no_face())])
    assert response.status_code == 200
    assert response.json()["results"][0]["faces"] == []


def test_an_unreadable_query_among_several_has_an_error(client: TestClient, taught: str) -> None:
    files = [sample("anger", 5), image(b"text", "notes.jpg")]
    response = client.post(f"{taught}/classify", files=files)
    assert response.status_code == 200
    good, bad = response.json()["results"]
    assert len(good["faces"]) == 1
    assert bad["error"]["code"] == "image_unreadable"
    assert bad["filename"] == "notes.jpg"


@pytest.mark.parametrize(
    ("bomb", "detail"),
    [
        ("PNG of 1.6 gigapixels", "40000 x 40000 pixels are more than"),
        ("progressive JPEG of 200 megapixels", "16000 x 12500 pixels are more than"),
        ("JPEG of a long line", "65500 x 16 pixels: one side is too short"),
        ("WebP of endless sides", "pixels are more than"),
        ("animation", "an animation"),
    ],
)
def test_a_hostile_image_or_an_animation_is_unreadable_and_says_why(
    client: TestClient, taught: str, bomb: str, detail: str
) -> None:
    frames = {"save_all": True, "append_images": [sample_image("anger", 1)]}
    data = encoded(sample_image("anger", 0), "WEBP", **frames) if bomb == "animation" else BOMBS[bomb]()
    response = client.post(f"{taught}/classify", files=[image(data)])
    assert_problem(response, 400, "image_unreadable")
    assert detail in response.json()["detail"]


def test_a_session_without_classes_cannot_classify(client: TestClient, session: str) -> None:
    assert_problem(client.post(f"{session}/classify", files=[sample("anger", 0)]), 422, "no_classes")


def test_a_query_after_a_write_is_scored_with_the_new_classes(client: TestClient, taught: str) -> None:
    def labels() -> set[str]:
        body = client.post(f"{taught}/classify", files=[sample("anger", 5)]).json()
        return {score["label"] for score in body["results"][0]["faces"][0]["scores"]}

    assert labels() == set(EXPRESSIONS)
    client.delete(f"{taught}/classes/anger")
    assert labels() == set(EXPRESSIONS) - {"anger"}
    client.post(f"{taught}/classes/new/examples", files=[sample("anger", 0)])
    assert labels() == set(EXPRESSIONS) - {"anger"} | {"new"}


def test_concurrent_queries_get_their_own_results(client: TestClient, taught: str) -> None:
    def scores(index: int) -> tuple[str, list[float]]:
        expression = EXPRESSIONS[index % 4]
        body = client.post(f"{taught}/classify", files=[sample(expression, 5)]).json()
        return expression, [s["score"] for s in body["results"][0]["faces"][0]["scores"]]

    alone = dict(scores(index) for index in range(4))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for expression, together in pool.map(scores, range(24)):
            assert together == pytest.approx(alone[expression], abs=1e-5)
