from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from model.networks.csrn import CSRN, FaceFeatures
from model.networks.encoders import Conv4Encoder
from model.networks.episode_scores import score_episodes
from model.networks.relation import select_prototypes
from model.training.objectives import EpisodeObjective, WarmUp

OUTPUTS = {"labels": 3, "votes": 4, "components": 5, "blendshapes": 52, "teacher": 7}


def targets_of(images: int) -> dict[str, Tensor]:
    return {
        "labels": torch.eye(3)[torch.arange(images) % 3],
        "votes": torch.eye(4)[torch.arange(images) % 4],
        "components": torch.randn(images, 5),
        "blendshapes": torch.randn(images, 52),
        "has_blendshapes": torch.ones(images),
        "teacher": torch.randn(images, 3, 7),
    }


def test_the_warm_up_learns_from_every_target() -> None:
    torch.manual_seed(0)
    learner = WarmUp(Conv4Encoder(), outputs=OUTPUTS)
    loss, _ = learner(torch.rand(4 + 2 * 2, 3, 64, 64), targets_of(4))
    loss.backward()
    for name, heads in learner.heads.items():
        for parameter in heads.parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name


def test_missing_votes_and_blendshapes_add_nothing_to_the_loss() -> None:
    torch.manual_seed(0)
    learner = WarmUp(Conv4Encoder(), outputs=OUTPUTS).eval()
    patches, targets = torch.rand(2 + 2 * 2, 3, 64, 64), targets_of(2)
    targets["votes"][1] = 0
    targets["has_blendshapes"][1] = 0
    before, _ = learner(patches, targets)
    targets["blendshapes"][1] += 10
    assert torch.equal(learner(patches, targets)[0], before)
    targets["blendshapes"][0] += 10
    assert learner(patches, targets)[0] > before
    targets["votes"][:] = 0
    assert torch.isfinite(learner(patches, targets)[0])


def test_a_label_is_predicted_from_all_three_patches() -> None:
    learner = WarmUp(Conv4Encoder(), outputs={"labels": 3}).eval()
    pixels = torch.rand(6, 3, 3, 64, 64)
    with torch.inference_mode():
        maps = learner.encoder(pixels.flatten(0, 1)).mean(dim=(-2, -1)).unflatten(0, (6, 3))
        logits = torch.zeros(6, 3)
        for part, (head,) in enumerate(learner.class_heads()):
            logits += head(maps[:, part])
        torch.testing.assert_close(learner.predict(pixels), logits.argmax(dim=1))


def test_the_episode_loss_is_the_papers_with_every_prototype_against_every_query() -> None:
    torch.manual_seed(0)
    network = CSRN("conv4").eval()
    way, shot, query = 3, 2, 2
    pixels = torch.rand(1, way, shot + query, 3, 3, 64, 64)
    with torch.inference_mode():
        loss, _ = EpisodeObjective(network, freeze_encoder=False).eval()(pixels, shot)
        maps = network.encode(pixels)[0]
        prototypes = select_prototypes(maps[:, :shot, 0])
        expected = 0.0
        for asked, taught in itertools.product(range(way), range(way)):
            target = float(asked == taught)
            for image in range(shot, shot + query):
                of_query = maps[asked, image]
                for example in range(shot):
                    scores = torch.sigmoid(network.relation(maps[taught, example], of_query))
                    expected += float((scores - target).square().sum()) / (way * way * query * shot)
                score = torch.sigmoid(network.relation(prototypes[taught][None], of_query[0][None]))
                expected += 0.7 * float((score - target).square()) / (way * way * query)
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_a_residual_relation_starts_as_the_cosine_and_learns() -> None:
    torch.manual_seed(0)
    network = CSRN("resnet", residual=True, cosine=True)
    objective = EpisodeObjective(network, freeze_encoder=True)
    pixels = torch.rand(1, 2, 3, 3, 3, 48, 48)
    with torch.inference_mode():
        maps = network.encode(pixels)
        support = FaceFeatures(maps=maps[:, :, :2], blendshapes=None)
        query = FaceFeatures(maps=maps[:, :, 2:].flatten(1, 2), blendshapes=None)
        pairs = score_episodes(network.eval(), support, query).pairs
        cosines = torch.einsum(
            "ewspc,eqpc->eqwsp", network.directions(support.means), network.directions(query.means)
        )
        torch.testing.assert_close(pairs, torch.sigmoid(2 * cosines))
    loss, _ = objective.train()(pixels, 2)
    loss.backward()
    assert network.relation.fc2.weight.grad is not None
    assert network.relation.fc2.weight.grad.any()
    assert all(parameter.grad is None for parameter in network.encoder.parameters())
