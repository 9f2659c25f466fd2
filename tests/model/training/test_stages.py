from __future__ import annotations

import numpy as np
import torch

from model.training.stages import SHRINKAGE, fit_whitening


def test_whitening_reduces_directions_of_large_differences_within_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = np.arange(2000) % 4
    # The first number differs within classes, the second between them, the third hardly at all.
    centers = torch.tensor([[0.0, 3.0 * number, 0.0] for number in range(4)])
    spread = torch.tensor([5.0, 1.0, 0.1])
    drawn = centers[torch.from_numpy(labels)] + spread * torch.randn(2000, 3, generator=generator)
    whitening = fit_whitening(drawn, labels)
    deviations = torch.stack([(drawn @ whitening)[labels == label].std(dim=0) for label in range(4)]).mean(
        dim=0
    )
    variances = spread.square()
    shrunken = (1 - SHRINKAGE) * variances + SHRINKAGE * variances.mean()
    assert torch.allclose(deviations, spread / shrunken.sqrt(), rtol=0.1)
    assert torch.allclose(whitening, whitening.T, atol=1e-6)
