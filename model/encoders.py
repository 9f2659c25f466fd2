"""Encoders: a 64x64 patch to a feature map. One encoder serves the face, eye and lip patches alike."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FeatureShape = tuple[int, int, int]
"""Channels, height and width of a feature map"""


class Conv4Encoder(nn.Module):
    """The published encoder: four blocks of 3x3 convolution, batch norm and ReLU.

    The first two are unpadded and max-pooled. Layer sizes and parameter names are those of the code
    that CSRN's authors published in 2023, so that their checkpoints load unchanged.
    """

    feature_shape: FeatureShape = (64, 14, 14)
    sees_colour = True

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = conv_block(3, 64, padding=0, pool=True)
        self.layer2 = conv_block(64, 64, padding=0, pool=True)
        self.layer3 = conv_block(64, 64, padding=1, pool=False)
        self.layer4 = conv_block(64, 64, padding=1, pool=False)

    def forward(self, patches: Tensor) -> Tensor:
        """Patches (patches, 3, 64, 64) float in [0, 1] to feature maps (patches, 64, 14, 14)."""
        pixels = patches.to(next(self.parameters()).dtype)
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(pixels))))
        return features


class ResNet12Encoder(nn.Module):
    """Four residual blocks of three 3x3 convolutions, as few-shot learning uses them, made slim.

    After the ResNet-12 of Lee et al., "Meta-learning with differentiable convex optimization",
    CVPR 2019, with a tenth of its work: it sees luminance alone, because colour says little about an
    expression and grey training images say nothing about colour; each patch is brought to zero mean
    and unit deviation, against the light; and 2x2 pixels become channels before the first block.
    """

    feature_shape: FeatureShape = (128, 8, 8)
    sees_colour = False
    WIDTHS = (32, 64, 128, 128)

    def __init__(self) -> None:
        super().__init__()
        first, second, third, fourth = self.WIDTHS
        self.blocks = nn.Sequential(
            _ResidualBlock(4, first, pool=True),
            _ResidualBlock(first, second, pool=True),
            _ResidualBlock(second, third, pool=False),
            _ResidualBlock(third, fourth, pool=False),
        )

    def forward(self, patches: Tensor) -> Tensor:
        """Patches (patches, 3, 64, 64) float in [0, 1] to feature maps (patches, 128, 8, 8)."""
        grey = luminance(patches)
        grey = grey - grey.mean(dim=(2, 3), keepdim=True)
        grey = grey / (grey.square().mean(dim=(2, 3), keepdim=True) + 1e-3).sqrt()
        pixels = nn.functional.pixel_unshuffle(grey, 2).contiguous(memory_format=torch.channels_last)
        # Served in bfloat16, the network sees patches that were standardised in float32.
        features: Tensor = self.blocks(pixels.to(next(self.blocks.parameters()).dtype))
        return features


class _ResidualBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, *, pool: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv_norm(channels_in, channels_out),
            nn.ReLU(inplace=True),
            *_conv_norm(channels_out, channels_out),
            nn.ReLU(inplace=True),
            *_conv_norm(channels_out, channels_out),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, kernel_size=1, bias=False), nn.BatchNorm2d(channels_out)
        )
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(self.pool(self.body(features) + self.shortcut(features)))


ENCODERS: dict[str, type[Conv4Encoder] | type[ResNet12Encoder]] = {
    "conv4": Conv4Encoder,
    "resnet12": ResNet12Encoder,
}


def luminance(pixels: Tensor) -> Tensor:
    """Luminance (..., 1, H, W) of red, green and blue (..., 3, H, W), by ITU-R BT.601."""
    red, green, blue = pixels.unbind(dim=-3)
    return (0.299 * red + 0.587 * green + 0.114 * blue).unsqueeze(-3)


def conv_block(channels_in: int, channels_out: int, *, padding: int, pool: bool) -> nn.Sequential:
    """3x3 convolution, batch norm, 2x2 max-pool if asked for, ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=padding),
        nn.BatchNorm2d(channels_out),
    ]
    if pool:
        # The maximum of rectified values is the rectified maximum: this order has a quarter to rectify.
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


def _conv_norm(channels_in: int, channels_out: int) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(channels_out)
