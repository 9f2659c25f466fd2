from __future__ import annotations

from typing import Any

import pytest
import torch

from model.networks.csrn import CSRN, VoteHeads, spatial_means
from model.networks.episode_scores import score_episodes
from model.networks.relation import RESIDUAL_REACH, select_shots
from tests.support import golden
from tests.support.golden import assert_reproduces
from tests.support.networks import FULL, full_network


def directions(network: CSRN, maps: torch.Tensor) -> torch.Tensor:
    return network.directions(spatial_means(maps))


def case_name(case: dict[str, Any]) -> str:
    return f"{case['way']}-way-{case['shot']}-shot-{case['queries']}-queries"


@pytest.mark.parametrize("case", golden.CASES["seeded"], ids=case_name)
def test_seeded_network_reproduces_the_published_modules(case: dict[str, Any]) -> None:
    assert_reproduces(golden.seeded_network(), case)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("encoder", ["conv4", "resnet", "resnet-large"])
def test_halves_give_the_score_of_the_plain_concatenation(encoder: str, residual: bool) -> None:
    network = full_network(FULL.model_copy(update={"encoder": encoder, "residual": residual}))
    support, query = torch.rand(2, 5, 3, *network.feature_shape)
    with torch.inference_mode():
        plain = network.relation(support.flatten(0, 1), query.flatten(0, 1)).reshape(5, 3)
        cosines = (directions(network, support) * directions(network, query)).sum(dim=-1)
        halves = network.relation.relate(network.support_half(support), network.query_half(query))
    torch.testing.assert_close(halves, network.relation.score(plain, cosines), atol=1e-5, rtol=0)


def test_an_untrained_residual_relation_orders_pairs_by_their_cosine() -> None:
    network = FULL.build_network().eval()
    support, query = torch.rand(2, 20, 3, *network.feature_shape)
    with torch.inference_mode():
        cosines = (directions(network, support) * directions(network, query)).sum(dim=-1)
        scores = network.relation.relate(network.support_half(support), network.query_half(query))
    by_cosine = scores.flatten()[cosines.flatten().argsort()]
    # Cosines that differ by less than the rounding of the scores may change places.
    assert by_cosine.diff().min() > -1e-6


def test_a_residual_relation_changes_the_cosines_score_within_its_reach() -> None:
    relation = full_network().relation
    logits, cosines = torch.linspace(-100, 100, 9), torch.full((9,), 0.3)
    start = relation.slope * (0.3 - relation.middle)
    moved = relation.score(logits, cosines).logit() - start
    assert moved.abs().max().item() == pytest.approx(RESIDUAL_REACH, abs=1e-4)
    assert moved[4].item() == pytest.approx(0, abs=1e-5)
    assert (moved.diff() >= 0).all()


def test_features_are_the_maps_of_the_parts_followed_by_the_blendshapes() -> None:
    network = full_network()
    maps = torch.rand(2, 4, 3, *network.feature_shape).half()
    blendshapes = torch.rand(2, 4, 52).half()
    features = torch.cat([maps.flatten(2), blendshapes], dim=-1)
    assert features.shape[-1] == network.numbers_per_face
    unpacked = network.unpack(features)
    assert torch.equal(unpacked.maps, maps.float())
    assert unpacked.blendshapes is not None
    assert torch.equal(unpacked.blendshapes, blendshapes.float())
    plain = CSRN()
    assert plain.numbers_per_face == 3 * 64 * 14 * 14
    assert plain.unpack(torch.rand(2, plain.numbers_per_face)).blendshapes is None


def test_the_first_of_two_shots_is_selected_because_both_are_equally_near() -> None:
    support = torch.randn(2, 64, 14, 14, generator=torch.Generator().manual_seed(0))
    assert select_shots(support).tolist() == [0] * 64


def test_episodes_scored_together_score_as_each_alone() -> None:
    network = full_network()
    support = network.unpack(torch.rand(2, 3, 4, network.numbers_per_face))
    query = network.unpack(torch.rand(2, 5, network.numbers_per_face))
    with torch.inference_mode():
        together = score_episodes(network, support, query).class_parts()
        for index in range(2):
            alone = score_episodes(network, support[index], query[index]).class_parts()
            torch.testing.assert_close(together[index], alone, atol=1e-5, rtol=0)
    assert together.shape == (2, 5, 3, 7)


@pytest.mark.parametrize("name", ["resnet", "resnet-large"])
def test_a_residual_encoder_ignores_colour_and_brightness(name: str) -> None:
    encoder = CSRN(name).encoder.eval()
    grey = torch.rand(2, 1, 48, 48).expand(-1, 3, -1, -1)
    red = torch.zeros(2, 3, 48, 48)
    red[:, 0] = grey[:, 0]
    with torch.inference_mode():
        expected = encoder(grey)
        # Red alone is the same picture at 0.299 of the light; 1e-3 in the deviation is what remains.
        torch.testing.assert_close(encoder(red), expected, atol=0.1, rtol=0.1)
        torch.testing.assert_close(encoder(0.5 * grey + 0.3), expected, atol=0.1, rtol=0.1)


def test_the_votes_part_is_the_overlap_of_two_predicted_distributions() -> None:
    torch.manual_seed(0)
    heads = VoteHeads(8, (3, 4))
    first, second = torch.rand(2, 2, 3, 8)
    with torch.inference_mode():
        roots, others = heads(first), heads(second)
        assert roots.shape == (2, 7)
        shares = roots.square()
        ones = torch.ones(2)
        torch.testing.assert_close(shares[:, :3].sum(dim=1), ones)
        torch.testing.assert_close(shares[:, 3:].sum(dim=1), ones)
        coefficient = ((shares * others.square()).sqrt().sum(dim=1)) / 2
        torch.testing.assert_close(torch.cosine_similarity(roots, others), coefficient)
        logits = sum(head(first[:, part]) for part, head in enumerate(heads.parts))
        torch.testing.assert_close(shares[:, :3], torch.as_tensor(logits)[:, :3].softmax(dim=1))
