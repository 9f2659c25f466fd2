from __future__ import annotations

from typing import Any

import pytest
import torch

from model.network import CSRN, gather_channels, score_episodes, select_prototypes, select_shots
from tests.model import golden


def case_name(case: dict[str, Any]) -> str:
    return f"{case['way']}-way-{case['shot']}-shot-{case['queries']}-queries"


def assert_reproduces(network: CSRN, case: dict[str, Any]) -> None:
    """Every number of a golden case, to 1e-5.

    With two shots both are equally near to their mean, and the published choice is rounding noise of
    the machine that made it; there the published choice is taken as given, once shown to be a tie.
    """
    support_patches, query_patches = golden.case_inputs(case)
    with torch.inference_mode():
        support, query = network.encode(support_patches), network.encode(query_patches)
        scores = score_episodes(network, support, query)
    assert support.mean().item() == pytest.approx(case["feature_mean"], abs=1e-5)
    assert support.std().item() == pytest.approx(case["feature_std"], abs=1e-5)
    pairs = torch.tensor(case["pair_scores"])
    torch.testing.assert_close(scores.pairs.flatten(1), pairs, atol=1e-5, rtol=0)

    faces, published = support[:, :, 0], torch.tensor(case["chosen_shot"])
    prototype_scores = scores.prototypes
    if case["shot"] == 2:
        means = faces.mean(dim=(-2, -1))
        distances = (means - means.mean(dim=1, keepdim=True)).abs()
        torch.testing.assert_close(distances[:, 0], distances[:, 1], atol=1e-6, rtol=0)
        with torch.inference_mode():
            prototype_scores = network.relation.score_halves(
                network.relation.support_half(gather_channels(faces, published)),
                network.relation.query_half(query)[:, None, 0],
            )
    else:
        assert torch.equal(select_shots(faces), published)
    expected = torch.tensor(case["prototype_scores"])
    torch.testing.assert_close(prototype_scores, expected, atol=1e-5, rtol=0)
    totals = scores.pairs.sum(dim=(2, 3)) + 0.7 * case["shot"] * prototype_scores
    # A total sums up to 13 scores that golden.json gives to 7 digits.
    torch.testing.assert_close(totals, torch.tensor(case["class_total"]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", golden.CASES["seeded"], ids=case_name)
def test_seeded_network_reproduces_the_published_modules(case: dict[str, Any]) -> None:
    assert_reproduces(golden.seeded_network(), case)


@pytest.mark.parametrize("encoder", ["conv4", "resnet12"])
def test_halves_score_as_the_plain_concatenation_does(encoder: str) -> None:
    network = CSRN(encoder).eval()
    relation, shape = network.relation, network.encoder.feature_shape
    support, query = torch.randn(5, *shape), torch.randn(5, *shape)
    with torch.inference_mode():
        plain = relation(support, query)
        halves = relation.score_halves(relation.support_half(support), relation.query_half(query))
    torch.testing.assert_close(halves, plain, atol=1e-5, rtol=0)


def test_each_prototype_channel_comes_from_the_shot_nearest_to_the_class_mean() -> None:
    support = torch.randn(4, 3, 8, 5, 5, generator=torch.Generator().manual_seed(0))
    prototypes = select_prototypes(support)
    for label in range(4):
        for channel in range(8):
            means = support[label, :, channel].mean(dim=(-2, -1))
            nearest = (means - means.mean()).abs().argmin()
            assert torch.equal(prototypes[label, channel], support[label, nearest, channel])


def test_a_prototype_of_one_class_does_not_depend_on_the_query_order() -> None:
    network = golden.seeded_network()
    support, query = torch.randn(2, 3, 3, 64, 14, 14), torch.randn(4, 3, 64, 14, 14)
    with torch.inference_mode():
        forward = score_episodes(network, support, query).prototypes
        backward = score_episodes(network, support, query.flip(0)).prototypes
    torch.testing.assert_close(backward.flip(0), forward)


def test_of_two_shots_which_are_always_equally_near_the_first_is_chosen() -> None:
    support = torch.randn(2, 64, 14, 14, generator=torch.Generator().manual_seed(0))
    assert select_shots(support).tolist() == [0] * 64


def test_episodes_scored_together_score_as_each_alone() -> None:
    network = CSRN("resnet12", cosine=True).eval()
    support = torch.randn(2, 3, 4, 3, *network.encoder.feature_shape)
    query = torch.randn(2, 5, 3, *network.encoder.feature_shape)
    with torch.inference_mode():
        together = score_episodes(network, support, query).class_parts()
        for index in range(2):
            alone = score_episodes(network, support[index], query[index]).class_parts()
            torch.testing.assert_close(together[index], alone, atol=1e-5, rtol=0)
    assert together.shape == (2, 5, 3, 5)


def test_resnet12_sees_neither_colour_nor_the_strength_of_the_light() -> None:
    encoder = CSRN("resnet12").encoder.eval()
    grey = torch.rand(2, 1, 64, 64).expand(-1, 3, -1, -1)
    red = torch.zeros(2, 3, 64, 64)
    red[:, 0] = grey[:, 0]
    with torch.inference_mode():
        expected = encoder(grey)
        # Red alone is the same picture at 0.299 of the light; 1e-3 in the deviation is what remains.
        torch.testing.assert_close(encoder(red), expected, atol=0.1, rtol=0.1)
        torch.testing.assert_close(encoder(0.5 * grey + 0.3), expected, atol=0.1, rtol=0.1)
