from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from model.errors import EpisodeImpossible
from model.training.augment import augment
from model.training.batches import EpisodeBatches, LabelBatches
from model.training.episodes import EpisodeSampler
from model.training.geometry import LandmarkComponents
from model.training.prepared import PreparedImages
from tests.conftest import EXPRESSIONS


@pytest.fixture(scope="module")
def components(prepared: PreparedImages) -> LandmarkComponents:
    return LandmarkComponents.fit(prepared.landmarks(), count=8)


def test_a_mirrored_face_has_all_its_patches_mirrored() -> None:
    # A gradient that grows to the right shows which way a patch was turned.
    gradient = torch.linspace(0, 1, 64).expand(40, 3, 1, 64, 64)
    pixels, mirrored = augment(gradient, torch.Generator().manual_seed(0))
    to_the_right = pixels[..., 40:].mean(dim=(2, 3, 4)) > pixels[..., :24].mean(dim=(2, 3, 4))
    assert 10 < mirrored.sum() < 30
    assert torch.equal(to_the_right, ~mirrored[:, None].expand(-1, 3))


def test_augmentation_follows_the_generator_and_stays_an_image(prepared: PreparedImages) -> None:
    patches = torch.from_numpy(prepared.patches(slice(0, 8))).permute(0, 1, 4, 2, 3) / 255
    first, again, other = (augment(patches, torch.Generator().manual_seed(seed))[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == patches.shape
    assert -0.3 < first.min() < first.max() < 1.3


def test_label_batches_keep_label_and_landmarks_with_their_image(
    prepared: PreparedImages, components: LandmarkComponents
) -> None:
    one = prepared.select(np.array([3]))
    ramp = np.broadcast_to(np.linspace(0, 255, 64).astype(np.uint8)[:, None], (32, 3, 64, 64, 3))
    one = dataclasses.replace(one, all_patches=ramp)  # Brighter to the right, unless mirrored.
    batches = LabelBatches(one, components, classes=EXPRESSIONS, batch=20, colour=False)
    pixels, labels, targets = batches.draw(np.random.default_rng(0))
    assert pixels.shape == (20, 3, 3, 64, 64)
    assert set(labels.tolist()) == {EXPRESSIONS.index(str(prepared.labels[3]))}
    straight, mirrored = (
        torch.from_numpy(components.of(one.landmarks(), mirrored=flag))[0] for flag in (False, True)
    )
    is_straight = torch.isclose(targets, straight).all(dim=1)
    is_mirrored = torch.isclose(targets, mirrored).all(dim=1)
    assert (is_straight | is_mirrored).all()
    assert 0 < is_straight.sum() < 20
    brighter_right = pixels[..., 32:].mean(dim=(1, 2, 3, 4)) > pixels[..., :32].mean(dim=(1, 2, 3, 4))
    assert torch.equal(brighter_right, is_straight)


def test_episode_batches_put_supports_before_queries(
    prepared: PreparedImages, components: LandmarkComponents
) -> None:
    sampler = EpisodeSampler(prepared.labels, classes=EXPRESSIONS, way=3, shot=2, query=1)

    def batches(share: float) -> EpisodeBatches:
        return EpisodeBatches(
            prepared, components, sampler, episodes=2, landmark_share=share, seed=0, colour=True
        )

    pixels, by_labels, shot = batches(0).draw(np.random.default_rng(0))
    assert (pixels.shape, shot) == ((2, 3, 3, 3, 3, 64, 64), 2)
    assert by_labels.tolist() == [True, True]
    of_landmarks, by_labels, _ = batches(1).draw(np.random.default_rng(0))
    assert of_landmarks.shape == pixels.shape
    assert not torch.equal(of_landmarks, pixels)
    assert by_labels.tolist() == [False, False]


def test_landmark_classes_hold_a_video_once(prepared: PreparedImages, components: LandmarkComponents) -> None:
    """Each face as five frames of a video: 32 videos are too few for what 160 images would be enough for."""
    frames = prepared.select(np.arange(32).repeat(5))
    frames = dataclasses.replace(frames, groups=np.array([f"video {index // 5}" for index in range(160)]))
    sampler = EpisodeSampler(frames.labels, classes=EXPRESSIONS, way=4, shot=5, query=5)

    def batches(images: PreparedImages) -> EpisodeBatches:
        return EpisodeBatches(images, components, sampler, episodes=1, landmark_share=1, seed=0, colour=False)

    with pytest.raises(EpisodeImpossible, match="32 images are too few for episodes of landmark classes"):
        batches(frames)
    alone = dataclasses.replace(frames, groups=np.array([f"{index}" for index in range(160)]))
    assert batches(alone).draw(np.random.default_rng(0))[0].shape[:3] == (1, 4, 10)


def test_faces_that_form_no_landmark_classes_are_refused(
    prepared: PreparedImages, components: LandmarkComponents
) -> None:
    alike = prepared.select(np.array([0, 0, 0, 0, 0, 5]))
    alike = dataclasses.replace(alike, labels=np.array(["a", "a", "a", "b", "b", "b"]))
    sampler = EpisodeSampler(alike.labels, classes=("a", "b"), way=2, shot=2, query=1)
    with pytest.raises(EpisodeImpossible, match="2 images are too few for episodes of landmark classes"):
        EpisodeBatches(alike, components, sampler, episodes=1, landmark_share=1, seed=0, colour=True)
