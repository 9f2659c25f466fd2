from __future__ import annotations

import itertools

import pytest
import torch

from model.encoders import Conv4Encoder
from model.network import CSRN, select_prototypes
from model.training.objectives import EpisodeObjective, WarmUp


def test_the_warm_up_looks_at_every_face_and_at_the_eyes_and_lips_of_half() -> None:
    learner = WarmUp(Conv4Encoder(), classes=3, components=5)
    pixels = torch.rand(4, 3, 3, 64, 64, requires_grad=True)
    loss, _ = learner(pixels, torch.tensor([0, 1, 2, 0]), torch.randn(4, 5))
    loss.backward()
    assert pixels.grad is not None
    seen = (pixels.grad.flatten(2) != 0).any(dim=2)
    assert seen.tolist() == [
        [True, True, True],
        [True, True, True],
        [True, False, False],
        [True, False, False],
    ]


def test_a_warmed_up_learner_predicts_from_all_three_patches() -> None:
    learner = WarmUp(Conv4Encoder(), classes=3, components=5).eval()
    pixels = torch.rand(6, 3, 3, 64, 64)
    with torch.inference_mode():
        maps = learner.encoder(pixels.flatten(0, 1)).mean(dim=(-2, -1)).unflatten(0, (6, 3))
        logits = sum(head(maps[:, part]) for part, head in enumerate(learner.labels))
        assert torch.equal(learner.predict(pixels), torch.as_tensor(logits).argmax(dim=1))


def test_the_loss_of_episodes_is_the_papers_with_each_prototype_against_each_query() -> None:
    torch.manual_seed(0)
    network = CSRN("conv4").eval()
    way, shot, query = 3, 2, 2
    pixels = torch.rand(1, way, shot + query, 3, 3, 64, 64)
    with torch.inference_mode():
        loss, _ = EpisodeObjective(network, freeze_encoder=False).eval()(pixels, torch.tensor([True]), shot)
        maps = network.encode(pixels)[0]
        prototypes = select_prototypes(maps[:, :shot, 0])
        expected = 0.0
        for asked, taught in itertools.product(range(way), range(way)):
            target = float(asked == taught)
            for image in range(shot, shot + query):
                of_query = maps[asked, image]
                for example in range(shot):
                    scores = network.relation(maps[taught, example], of_query)
                    expected += float((scores - target).square().sum()) / (way * way * query * shot)
                score = network.relation(prototypes[taught][None], of_query[0][None])
                expected += 0.7 * float((score - target).square()) / (way * way * query)
    assert loss.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("by_labels", [True, False])
def test_the_cosine_map_learns_from_episodes_of_labels_alone(by_labels: bool) -> None:
    torch.manual_seed(0)
    network = CSRN("resnet12", cosine=True)
    assert network.cosine is not None
    objective = EpisodeObjective(network, freeze_encoder=True)
    with torch.no_grad():
        network.cosine.map.weight[0, 0] = 1.5
    loss, _ = objective(torch.rand(1, 2, 3, 3, 3, 64, 64), torch.tensor([by_labels]), 2)
    loss.backward()
    map_gradient = network.cosine.map.weight.grad
    assert map_gradient is not None
    assert map_gradient[0, 0] > 0, "the map is held to the identity in any case"
    assert (map_gradient.count_nonzero() > 1) == by_labels
    assert bool(network.cosine.slope.grad) == by_labels
    assert network.relation.fc2.weight.grad is not None
    assert network.relation.fc2.weight.grad.any()
