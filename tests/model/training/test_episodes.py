from __future__ import annotations

import numpy as np
import pytest

from model.errors import EpisodeImpossible
from model.training.episodes import EpisodeSampler

LABELS = np.repeat(np.array(["a", "b", "c"]), 6)


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
