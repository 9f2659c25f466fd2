"""One example's features as bytes, the same in every store."""

from __future__ import annotations

import numpy as np
import safetensors.numpy

from model.support_set import Features


def features_to_bytes(features: Features) -> bytes:
    """Features (numbers,) float16 as a safetensors file."""
    data: bytes = safetensors.numpy.save({"features": np.ascontiguousarray(features)})
    return data


def features_from_bytes(data: bytes) -> Features:
    """The features that features_to_bytes was given."""
    features: Features = safetensors.numpy.load(data)["features"].astype(np.float16, copy=False)
    return features
