from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from model.errors import EpisodeImpossible
from model.training.batches import EpisodeBatches, LabelBatches, cluster_samplers
from model.training.episodes import EpisodeSampler
from model.training.landmark_components import LandmarkComponents
from model.training.patch_reader import PatchReader, augment, resize_patches
from model.training.prepared import PreparedImages
from model.training.targets import build_targets
from model.training.teacher import TeacherTargets
from tests.support.samples import EXPRESSIONS


@pytest.fixture(scope="module")
def components(prepared: PreparedImages) -> LandmarkComponents:
    return LandmarkComponents.fit(prepared.landmarks()[..., :2], count=8)


def reader_of(images: PreparedImages) -> PatchReader:
    return PatchReader(images, layout="tight", colour=False)


def test_a_mirrored_face_has_all_its_patches_mirrored() -> None:
    # A gradient that grows to the right shows which way a patch was turned.
    gradient = torch.linspace(0, 1, 48).expand(40, 3, 1, 48, 48)
    pixels, mirrored = augment(gradient, torch.Generator().manual_seed(0))
    to_the_right = pixels[..., 30:].mean(dim=(2, 3, 4)) > pixels[..., :18].mean(dim=(2, 3, 4))
    assert 10 < mirrored.sum() < 30
    assert torch.equal(to_the_right, ~mirrored[:, None].expand(-1, 3))


def test_augmented_patches_are_images_that_repeat_with_the_seed(prepared: PreparedImages) -> None:
    patches = torch.from_numpy(prepared.patches(slice(0, 8), "tight")).permute(0, 1, 4, 2, 3)[:, :, :1] / 255
    torch.manual_seed(5)
    first, again, other = (augment(patches, torch.Generator().manual_seed(seed))[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == patches.shape
    assert 0 <= first.min() < first.max() <= 1
    expected = torch.rand(1, generator=torch.Generator().manual_seed(5))
    assert torch.rand(1) == expected, "the global generator is left as it was"


def test_targets_belong_to_the_images_of_their_batch(
    prepared: PreparedImages, components: LandmarkComponents
) -> None:
    one = prepared.select(np.array([3]))
    # Brighter to the right, unless mirrored.
    ramp = np.broadcast_to(np.linspace(0, 255, 48).astype(np.uint8)[:, None], (32, 3, 48, 48, 3))
    one = dataclasses.replace(one, all_patches={"tight": ramp})
    targets = build_targets(one, components, classes=EXPRESSIONS)
    said = np.array([[1.0], [2.0]], dtype=np.float16)[None, :, None].repeat(3, axis=2)
    teacher = TeacherTargets(maps=said, shares={}, share=0.0)
    batches = LabelBatches(reader_of(one), targets, np.array([2]), batch=20, size_px=32, teacher=teacher)
    patches, drawn = batches.draw(np.random.default_rng(0))
    assert patches.shape == (20 + 2 * 10, 3, 32, 32), "all faces, and eyes and lips of half of the images"
    label = EXPRESSIONS.index(str(prepared.labels[3]))
    assert set(drawn["labels"].argmax(dim=1).tolist()) == {label}
    straight, mirrored = (
        torch.from_numpy(components.of(one.landmarks()[..., :2], mirrored=flag))[0].clamp(-4, 4)
        for flag in (False, True)
    )
    is_straight = torch.isclose(drawn["components"], straight).all(dim=1)
    is_mirrored = torch.isclose(drawn["components"], mirrored).all(dim=1)
    assert (is_straight | is_mirrored).all()
    assert 0 < is_straight.sum() < 20
    brighter_right = patches[:20, ..., 16:].mean(dim=(1, 2, 3)) > patches[:20, ..., :16].mean(dim=(1, 2, 3))
    assert torch.equal(brighter_right, is_straight)
    assert torch.equal(drawn["teacher"][:, 0, 0] == 1, is_straight)


def test_resized_patches_show_the_same_picture() -> None:
    ramp = torch.linspace(0, 1, 48).expand(2, 3, 1, 48, 48)
    small = resize_patches(ramp, 32)
    assert torch.allclose(small[0, 0, 0, 16], torch.linspace(0, 1, 32), atol=0.01)
    assert resize_patches(ramp, 48) is ramp


def test_soft_targets_mix_the_annotators_and_the_teacher() -> None:
    said = np.array([[[0.0, 1.0], [1.0, 0.0]]] * 2, dtype=np.float32)
    maps = np.zeros((2, 2, 3, 5), dtype=np.float16)
    maps[1, 0] = 2.0
    teacher = TeacherTargets(maps=maps, shares={"votes": said}, share=0.7)
    votes = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    mixed = teacher.add_to({"votes": votes, "labels": votes}, np.array([0, 1]), np.array([0, 0]))
    assert mixed["votes"][0].tolist() == pytest.approx([0.3, 0.7])
    assert mixed["votes"][1].tolist() == [0.0, 1.0], "without votes the teacher's prediction is used alone"
    assert torch.equal(mixed["labels"], votes)
    assert mixed["teacher"][:, 0, 0].tolist() == [0.0, 2.0]


def test_episode_batches_put_supports_before_queries_and_draw_every_kind_of_classes(
    prepared: PreparedImages,
) -> None:
    def sampler(names: list[str]) -> EpisodeSampler:
        return EpisodeSampler(np.array(names), classes=("a", "b"), way=2, shot=2, query=1)

    first = [*["a"] * 4, *["b"] * 4, *[""] * 24]
    drawn: list[int] = []

    class Noting(PatchReader):
        def read(self, chosen, rng, **options):  # type: ignore[no-untyped-def]
            drawn.extend(chosen.tolist())
            return super().read(chosen, rng, **options)

    reader = Noting(prepared, layout="tight", colour=False)
    batches = EpisodeBatches(reader, [[sampler(first)], [sampler(first[::-1])]], episodes=8)
    pixels, shot = batches.draw(np.random.default_rng(0))
    assert (pixels.shape, shot) == ((8, 2, 3, 3, 3, 48, 48), 2)
    episodes = np.array(drawn).reshape(8, 2, 3)
    of_first = (episodes < 8).all(axis=(1, 2))
    of_second = (episodes >= 24).all(axis=(1, 2))
    assert (of_first | of_second).all()
    assert 0 < of_first.sum() < 8
    assert all(len(set(episode.ravel())) == 6 for episode in episodes)


def test_a_cluster_contains_one_frame_of_a_video(
    prepared: PreparedImages, components: LandmarkComponents
) -> None:
    """Each face as five frames of a video: 32 videos are too few where 160 images would be enough."""
    frames = prepared.select(np.arange(32).repeat(5))
    frames = dataclasses.replace(frames, groups=np.array([f"video {index // 5}" for index in range(160)]))
    sampler = EpisodeSampler(frames.labels, classes=EXPRESSIONS, way=4, shot=5, query=5)
    shapes = components.of(frames.landmarks()[..., :2])
    with pytest.raises(EpisodeImpossible, match="32 images are too few for episodes of clusters"):
        cluster_samplers(frames, shapes, sampler, np.random.default_rng(0))
    alone = dataclasses.replace(frames, groups=np.array([f"{index}" for index in range(160)]))
    samplers = cluster_samplers(alone, shapes, sampler, np.random.default_rng(0))
    assert samplers[0].draw(np.random.default_rng(0)).support.shape == (4, 5)
