from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from model.networks.geometry import MAX_DEVIATIONS, BlendshapeNetwork, level_points
from model.vision.blendshapes import BLENDSHAPE_COUNT
from model.vision.landmarks import LANDMARK_COUNT
from model.vision.patches import LEFT_EYE_OUTER, RIGHT_EYE_OUTER
from tests.support.networks import full_network


@pytest.fixture
def points() -> Tensor:
    return torch.rand(3, LANDMARK_COUNT, 2, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network() -> BlendshapeNetwork:
    geometry = full_network().geometry
    assert geometry is not None
    return geometry


def moved(points: Tensor, *, angle: float, scale: float, shift: tuple[float, float]) -> Tensor:
    """The points turned clockwise on the image, enlarged, and shifted."""
    cos, sin = math.cos(angle), math.sin(angle)
    return scale * points @ torch.tensor([[cos, sin], [-sin, cos]]) + torch.tensor(shift)


def distances(points: Tensor) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(points[:, :, None] - points[:, None], dim=-1)
    return found


def test_levelled_eyes_lie_on_a_level_line_around_the_origin_one_unit_apart(points: Tensor) -> None:
    levelled = level_points(points)
    for index, x in ((RIGHT_EYE_OUTER, -0.5), (LEFT_EYE_OUTER, 0.5)):
        torch.testing.assert_close(levelled[:, index], torch.tensor([[x, 0.0]] * 3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("angle", [0.0, 0.4, -1.2, math.pi])
@pytest.mark.parametrize(
    ("scale", "shift"), [(1.0, (30.0, -7.0)), (250.0, (0.0, 0.0)), (80.0, (900.0, 300.0))]
)
def test_rotation_size_and_position_of_a_face_do_not_matter(
    points: Tensor, network: BlendshapeNetwork, angle: float, scale: float, shift: tuple[float, float]
) -> None:
    same = moved(points, angle=angle, scale=scale, shift=shift)
    torch.testing.assert_close(level_points(same), level_points(points), atol=1e-3, rtol=1e-3)
    with torch.inference_mode():
        torch.testing.assert_close(network(same), network(points), atol=1e-3, rtol=1e-2)


def test_levelling_keeps_the_shape_and_does_not_mirror_it(points: Tensor) -> None:
    levelled = level_points(points)
    spans = (points[:, LEFT_EYE_OUTER] - points[:, RIGHT_EYE_OUTER]).norm(dim=-1)
    expected = distances(points) / spans[:, None, None]
    torch.testing.assert_close(distances(levelled), expected, atol=1e-4, rtol=1e-4)
    mirrored = level_points(points * torch.tensor([-1.0, 1.0]))
    assert (mirrored - levelled).abs().max() > 0.1


def test_coincident_eye_corners_give_finite_coefficients(network: BlendshapeNetwork) -> None:
    for points in (torch.zeros(1, LANDMARK_COUNT, 2), torch.full((1, LANDMARK_COUNT, 2), 1e4)):
        with torch.inference_mode():
            coefficients = network(points)
        assert torch.isfinite(network.standardise(coefficients)).all()


def test_standardising_coefficients_recovers_the_output_of_the_layers(
    points: Tensor, network: BlendshapeNetwork
) -> None:
    """Where neither the bounds of a coefficient nor those of a deviation cut it off."""
    with torch.inference_mode():
        roots, found = network.standard_roots(points), network.standardise(network(points))
    inside = (roots * network.root_deviation + network.root_mean).clamp(0, 1)
    inside = (inside > 0) & (inside < 1) & (roots.abs() < MAX_DEVIATIONS)
    assert inside.float().mean() > 0.5
    torch.testing.assert_close(found[inside], roots[inside], atol=1e-3, rtol=1e-3)


def test_coefficients_and_their_standardised_form_are_clipped(network: BlendshapeNetwork) -> None:
    extremes = torch.stack([torch.zeros(BLENDSHAPE_COUNT), torch.ones(BLENDSHAPE_COUNT)])
    with torch.inference_mode():
        found, coefficients = network.standardise(extremes), network(100 * torch.randn(50, LANDMARK_COUNT, 2))
    assert 0 <= coefficients.min() <= coefficients.max() <= 1
    assert found.abs().max().item() == pytest.approx(MAX_DEVIATIONS)
    assert (found[0] < 0).all()
    assert (found[1] > 0).all()
