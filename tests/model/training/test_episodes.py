from __future__ import annotations

import numpy as np
import pytest

from model.errors import EpisodeImpossible
from model.training.episodes import EpisodeSampler, classes_with_enough

LABELS = np.repeat(np.array(["a", "b", "c"]), 6)
DRAWN_BEFORE = (("b", "c"), [[9, 10, 11], [17, 15, 12]], [[8, 7], [13, 16]])
"""An episode of these labels, drawn by the first version of the sampler"""


def test_episodes_draw_without_replacement_and_by_seed() -> None:
    sampler = EpisodeSampler(LABELS, classes=("a", "b", "c"), way=2, shot=3, query=3)
    for seed in range(20):
        episode = sampler.draw(np.random.default_rng(seed))
        assert len(set(episode.classes)) == 2
        for label, support, query in zip(episode.classes, episode.support, episode.query, strict=True):
            images = [*support, *query]
            assert len(set(images)) == 6
            assert set(LABELS[images]) == {label}
        again = sampler.draw(np.random.default_rng(seed))
        np.testing.assert_array_equal(again.support, episode.support)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((4, 1, 1), "4-way episodes need 4 classes, there are 3"),
        ((2, 5, 2), "need 7 images a class, 'a' has 6"),
        ((0, 1, 1), "positive"),
    ],
)
def test_impossible_episodes_are_refused_with_the_counts(shape: tuple[int, int, int], reason: str) -> None:
    way, shot, query = shape
    with pytest.raises(EpisodeImpossible, match=reason):
        EpisodeSampler(LABELS, classes=("a", "b", "c"), way=way, shot=shot, query=query)


def test_no_group_is_on_both_sides_of_an_episode() -> None:
    groups = np.array([f"video {index // 2}" for index in range(len(LABELS))])
    sampler = EpisodeSampler(LABELS, classes=("a", "b", "c"), way=3, shot=2, query=1, groups=groups)
    seen = set()
    for seed in range(30):
        episode = sampler.draw(np.random.default_rng(seed))
        for support, query in zip(episode.support, episode.query, strict=True):
            images = [*support.tolist(), *query.tolist()]
            assert len(set(groups[images])) == 3
            seen.update(images)
    assert len(seen) == len(LABELS)
    with pytest.raises(
        EpisodeImpossible, match="4 images a class of different groups, 'a' has 6 in 3 groups"
    ):
        EpisodeSampler(LABELS, classes=("a",), way=1, shot=2, query=2, groups=groups)


def test_episodes_without_persons_are_the_same_as_before_persons_were_known() -> None:
    """Measured figures stay comparable: the draws below were made before persons were known."""
    plain = EpisodeSampler(LABELS, classes=("a", "b", "c"), way=2, shot=3, query=2)
    unnamed = EpisodeSampler(
        LABELS, classes=("a", "b", "c"), way=2, shot=3, query=2, persons=np.full(len(LABELS), "")
    )
    for sampler in (plain, unnamed):
        episode = sampler.draw(np.random.default_rng(7))
        assert (episode.classes, episode.support.tolist(), episode.query.tolist()) == DRAWN_BEFORE


def of_persons(persons: int, images: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and persons of a data set in which each person has the same number of images of each class."""
    labels = [f"class {label}" for label in range(classes) for _ in range(persons * images)]
    names = [f"S{index % persons}" for index in range(len(labels))]
    return np.array(labels), np.array(names)


def test_no_person_is_on_both_sides_of_an_episode() -> None:
    labels, persons = of_persons(persons=5, images=2, classes=4)
    # Of one class two images are of persons unknown, each of whom is a person of their own.
    persons[:2] = ""
    classes = tuple(np.unique(labels).tolist())
    sampler = EpisodeSampler(labels, classes=classes, way=3, shot=2, query=2, persons=persons)
    in_query, in_support = set(), set()
    for seed in range(200):
        episode = sampler.draw(np.random.default_rng(seed))
        support, query = episode.support.ravel(), episode.query.ravel()
        assert not (set(persons[support]) & set(persons[query])) - {""}
        assert len({*support, *query}) == 12
        for label, *sides in zip(episode.classes, episode.support, episode.query, strict=True):
            assert set(labels[np.concatenate(sides)]) == {label}
        in_support.update(support.tolist())
        in_query.update(query.tolist())
    assert in_support == in_query == set(range(len(labels)))
    again = sampler.draw(np.random.default_rng(199))
    np.testing.assert_array_equal(again.query, episode.query)


def test_images_with_equal_bytes_count_as_one_person() -> None:
    """P and Q share an image, so neither is among the queries if the other is in the support set."""
    labels = np.repeat(np.array(["a", "b"]), 6)
    persons = np.array(["P", "Q", "R", "S", "T", "U"] * 2)
    groups = np.full(12, "")
    groups[[0, 1]] = "twins"  # P and Q
    sampler = EpisodeSampler(
        labels, classes=("a", "b"), way=2, shot=2, query=1, groups=groups, persons=persons
    )
    for seed in range(100):
        episode = sampler.draw(np.random.default_rng(seed))
        sides = [set(persons[side.ravel()]) for side in (episode.support, episode.query)]
        for first, second in (sides, sides[::-1]):
            assert not (first & {"P", "Q"} and second & {"P", "Q"})


def test_persons_that_cannot_be_divided_are_refused_with_the_counts() -> None:
    labels, persons = of_persons(persons=1, images=6, classes=2)
    with pytest.raises(
        EpisodeImpossible,
        match=r"2 support images of some persons and 1 query .* 'class 0' has 6 images of 1 persons$",
    ):
        EpisodeSampler(labels, classes=("class 0",), way=1, shot=2, query=1, persons=persons)
    # Each class can be divided alone, but not both: one needs P in its support set, the other needs Q.
    labels = np.repeat(np.array(["a", "b"]), 3)
    persons = np.array(["P", "P", "Q", "Q", "Q", "P"])
    for label in ("a", "b"):
        EpisodeSampler(labels, classes=(label,), way=1, shot=2, query=1, persons=persons)
    with pytest.raises(
        EpisodeImpossible, match=r"'[ab]' has 3 images of 2 persons, '[ab]' has 3 images of 2"
    ):
        EpisodeSampler(labels, classes=("a", "b"), way=2, shot=2, query=1, persons=persons)


def test_the_only_possible_division_is_found() -> None:
    labels = np.repeat(np.array(["a", "b"]), 6)
    persons = np.array([*"PQRSTZ", *"PPPPPZ"])
    sampler = EpisodeSampler(labels, classes=("a", "b"), way=2, shot=5, query=1, persons=persons)
    for seed in range(50):
        episode = sampler.draw(np.random.default_rng(seed))
        assert persons[episode.query.ravel()].tolist() == ["Z", "Z"]


def test_a_personal_episode_shows_one_person_and_no_image_twice() -> None:
    labels, persons = of_persons(persons=4, images=2, classes=3)
    # One person lacks a class, and images of nobody known are left out.
    persons[(persons == "S3") & (labels == "class 2")] = ""
    classes = ("class 0", "class 1", "class 2")
    sampler = EpisodeSampler(labels, classes=classes, way=3, shot=1, query=1, persons=persons, personal=True)
    shown = set()
    for seed in range(100):
        episode = sampler.draw(np.random.default_rng(seed))
        images = np.concatenate([episode.support.ravel(), episode.query.ravel()])
        assert len(set(images.tolist())) == 6
        assert set(labels[episode.support.ravel()]) == set(labels[episode.query.ravel()]) == set(classes)
        (person,) = set(persons[images])
        shown.add(str(person))
    assert shown == {"S0", "S1", "S2"}


def test_personal_episodes_take_one_frame_of_a_video() -> None:
    labels, persons = of_persons(persons=2, images=3, classes=2)
    groups = np.full(len(labels), "")
    groups[(labels == "class 0") & (persons == "S0")] = "video"
    options = {"classes": ("class 0", "class 1"), "way": 2, "query": 1, "groups": groups}
    sampler = EpisodeSampler(labels, shot=1, persons=persons, personal=True, **options)  # type: ignore[arg-type]
    for seed in range(50):
        assert "S0" not in persons[sampler.draw(np.random.default_rng(seed)).support.ravel()]


@pytest.mark.parametrize(
    ("named", "way", "reason"),
    [
        (True, 3, "a person with 3 images each of 3 classes; none of the 4 persons has them for more than 2"),
        (False, 2, "personal episodes need images with known persons: run `csrn prepare` with --person"),
    ],
)
def test_impossible_personal_episodes_are_refused(named: bool, way: int, reason: str) -> None:
    labels, persons = of_persons(persons=4, images=3, classes=3)
    for number in range(4):
        persons[(labels == f"class {number % 3}") & (persons == f"S{number}")] = ""
    with pytest.raises(EpisodeImpossible, match=reason):
        EpisodeSampler(
            labels,
            classes=("class 0", "class 1", "class 2"),
            way=way,
            shot=2,
            query=1,
            persons=persons if named else np.full(len(labels), ""),
            personal=True,
        )


def test_classes_with_enough_images_are_found() -> None:
    labels = np.array(["few"] * 2 + ["one person"] * 4 + ["enough"] * 4 + [""] * 9)
    persons = np.array(["P", "Q"] + ["P"] * 4 + ["P", "Q"] * 2 + [""] * 9)
    assert classes_with_enough(labels, shot=2, query=1) == ("enough", "one person")
    assert classes_with_enough(labels, shot=2, query=1, persons=persons) == ("enough",)
    assert classes_with_enough(labels, shot=2, query=1, persons=persons, personal=True) == ("one person",)
