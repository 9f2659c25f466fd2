"""Measure few-shot accuracy over seeded episodes, with its interval."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from model.classifier import Classifier
from model.network import score_episode
from model.training.episodes import EpisodeSampler
from model.training.prepare import PreparedImages

ENCODE_BATCH = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Accuracy over episodes; `ci95` is the half-width of the mean's normal 95% interval."""

    accuracy: float
    ci95: float
    per_class: dict[str, float]
    """Recall of each class"""
    episodes: int
    way: int
    shot: int
    query: int
    seed: int
    weights_sha256: str


def evaluate(
    classifier: Classifier,
    images: PreparedImages,
    *,
    classes: tuple[str, ...],
    way: int,
    shot: int,
    query: int,
    episodes: int,
    seed: int,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Evaluation:
    """Mean accuracy over seeded episodes. Every image is encoded once, as a session would store it.

    Args: query: queries per class in each episode; progress: called with (stage, done, total).
    Raises: EpisodeImpossible.
    """
    images = images.select(np.isin(images.labels, classes))
    sampler = EpisodeSampler(images.labels, classes=classes, way=way, shot=shot, query=query)
    features = _encode_all(classifier, images, progress)
    rng = np.random.default_rng(seed)
    accuracies = np.empty(episodes)
    correct = dict.fromkeys(classes, 0)
    asked = dict.fromkeys(classes, 0)
    for index in range(episodes):
        episode = sampler.draw(rng)
        right = (
            predict_episode(classifier, features, episode.support, episode.query) == (np.arange(way)[:, None])
        )
        accuracies[index] = right.mean()
        for label, hits in zip(episode.classes, right.sum(axis=1).tolist(), strict=True):
            correct[label] += hits
            asked[label] += query
        progress("episodes", index + 1, episodes)
    spread = accuracies.std(ddof=1) if episodes > 1 else float("nan")
    return Evaluation(
        accuracy=float(accuracies.mean()),
        ci95=float(1.96 * spread / np.sqrt(episodes)),
        per_class={label: correct[label] / asked[label] for label in classes if asked[label]},
        episodes=episodes,
        way=way,
        shot=shot,
        query=query,
        seed=seed,
        weights_sha256=classifier.checkpoint.sha256,
    )


@torch.inference_mode()
def predict_episode(
    classifier: Classifier,
    features: torch.Tensor,
    support: npt.NDArray[np.int64],
    query: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Row of the best class for each query of an episode: (way, queries) of (way, shot), (way, queries)."""
    device = classifier.device
    scores = score_episode(
        classifier.relation,
        features[torch.from_numpy(support)].to(device, torch.float32),
        features[torch.from_numpy(query.ravel())].to(device, torch.float32),
    )
    class_parts = torch.cat([scores.pairs.mean(dim=2), scores.prototypes[..., None]], dim=-1)
    totals = classifier.class_scores(class_parts)
    return totals.argmax(dim=1).reshape(query.shape).cpu().numpy()


def _encode_all(
    classifier: Classifier, images: PreparedImages, progress: Callable[[str, int, int], None]
) -> torch.Tensor:
    encoded = []
    for start in range(0, len(images.labels), ENCODE_BATCH):
        encoded.append(classifier.encode(images.patches[start : start + ENCODE_BATCH]))
        progress("encoding", start + len(encoded[-1]), len(images.labels))
    return torch.from_numpy(np.concatenate(encoded))
