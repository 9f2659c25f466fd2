from __future__ import annotations

import dataclasses

import numpy as np
import torch

from model.networks.geometry import BlendshapeNetwork, level_points
from model.training.geometry import GeometryBatches, GeometryObjective
from model.training.landmark_components import LandmarkComponents
from model.training.prepared import PreparedImages
from model.training.targets import MIRROR_BLENDSHAPES
from model.vision.blendshapes import BLENDSHAPE_NAMES
from model.vision.patches import MOUTH

LEFT, RIGHT = BLENDSHAPE_NAMES.index("eyeBlinkLeft"), BLENDSHAPE_NAMES.index("eyeBlinkRight")


def one_face(prepared: PreparedImages) -> PreparedImages:
    """A face with its mouth far to one side, and with its left eye closed by its coefficients."""
    coefficients = np.zeros((len(prepared.all_landmarks), 52), dtype=np.float32)
    coefficients[:, LEFT], coefficients[:, RIGHT] = 0.81, 0.04
    lopsided = np.array(prepared.all_landmarks)
    lopsided[:, MOUTH, 0] += 60
    return dataclasses.replace(
        prepared.select(np.array([3])), all_landmarks=lopsided, all_blendshapes=coefficients
    )


def test_batches_rotate_and_mirror_faces_and_exchange_left_and_right(
    prepared: PreparedImages,
) -> None:
    components = LandmarkComponents.fit(prepared.landmarks()[..., :2], count=4)
    image = one_face(prepared)
    points, roots = GeometryBatches(image, components).draw(np.random.default_rng(0))
    seen = torch.isclose(roots[:, LEFT], torch.tensor(0.9))
    assert 0 < seen.sum() < len(seen)
    assert torch.allclose(roots[~seen][:, RIGHT], torch.tensor(0.9))
    straight = level_points(torch.from_numpy(image.landmarks()[0, :, :2]))
    mirrored = straight[components.image_of] * torch.tensor([-1.0, 1.0])
    apart = (straight - mirrored)[MOUTH].norm()
    # Turned to all sides, faces average to about their straight view.
    assert (points[seen].mean(dim=0) - straight)[MOUTH].norm() < 0.3 * apart
    assert (points[~seen].mean(dim=0) - mirrored)[MOUTH].norm() < 0.3 * apart
    assert (points - straight).abs().amax(dim=(1, 2)).std() > 0.005, "each is turned in its own way"


def test_the_network_learns_the_coefficients_of_a_face_and_of_its_mirror_image(
    prepared: PreparedImages,
) -> None:
    torch.manual_seed(0)
    components = LandmarkComponents.fit(prepared.landmarks()[..., :2], count=4)
    drawn = np.random.default_rng(0).random((len(prepared.all_landmarks), 52), dtype=np.float32)
    images = dataclasses.replace(prepared, all_blendshapes=drawn)
    batches = GeometryBatches(images, components)
    network = BlendshapeNetwork()
    objective = GeometryObjective(network, batches)
    optimizer = torch.optim.Adam(objective.parameters(), lr=3e-3)
    for step in range(300):
        loss, explained = objective(*batches.draw(np.random.default_rng(step)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert explained > 0.5
    points = torch.from_numpy(images.landmarks()[..., :2])
    with torch.inference_mode():
        error = (network(points) - torch.from_numpy(images.blendshapes())).abs().mean()
        in_mirror = points[:, components.image_of] * torch.tensor([-1.0, 1.0])
        swapped = torch.from_numpy(images.blendshapes()[:, MIRROR_BLENDSHAPES])
        assert (network(in_mirror) - swapped).abs().mean() < 0.75 * (network(points) - swapped).abs().mean()
    assert error < 0.2, "random guesses are a third off"
