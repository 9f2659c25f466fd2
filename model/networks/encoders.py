"""Encoders turn a patch into a feature map. One encoder serves the face, eye and lip patches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

FeatureShape = tuple[int, int, int]
"""Channels, height and width of a feature map"""


class Conv4Encoder(nn.Module):
    """The published encoder: four blocks of 3x3 convolution, batch norm and ReLU.

    The first two are unpadded and max-pooled. Layer sizes and parameter names are those of the code
    that CSRN's authors published in 2023, so their checkpoints load unchanged.
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
        """Feature maps (patches, 64, 14, 14) of patches (patches, 3, 64, 64) float in [0, 1]."""
        pixels = patches.to(next(self.parameters()).dtype)
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(pixels))))
        return features


class ResNetEncoder(nn.Module):
    """Residual blocks of two 3x3 convolutions (He et al., "Deep residual learning", CVPR 2016).

    It sees luminance alone: colour says little about an expression, and the training images are grey. Each
    patch is scaled to zero mean and unit deviation, which removes most of the lighting. Each block of 2x2
    pixels becomes four channels before the first convolution.
    """

    sees_colour = False

    def __init__(self, *, stem: int, blocks: Sequence[tuple[int, int]]) -> None:
        """stem: channels of the first convolution. blocks: channels and stride of each block."""
        super().__init__()
        layers: list[nn.Module] = [_conv_norm(4, stem)]
        channels, side = stem, 24
        for channels_out, stride in blocks:
            layers.append(_ResidualBlock(channels, channels_out, stride))
            channels, side = channels_out, side // stride
        self.layers = nn.Sequential(*layers)
        self.feature_shape: FeatureShape = (channels, side, side)

    def forward(self, patches: Tensor) -> Tensor:
        """Feature maps (patches, C, H, W) of patches (patches, 3, 48, 48) float in [0, 1]."""
        grey = luminance(patches)
        grey = grey - grey.mean(dim=(2, 3), keepdim=True)
        grey = grey / (grey.square().mean(dim=(2, 3), keepdim=True) + 1e-3).sqrt()
        pixels = nn.functional.pixel_unshuffle(grey, 2).contiguous(memory_format=torch.channels_last)
        # A network in bfloat16 still receives patches that were standardised in float32.
        features: Tensor = self.layers(pixels.to(next(self.layers.parameters()).dtype))
        return features


class _ResidualBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv_norm(channels_in, channels_out, stride=stride),
            _conv_norm(channels_out, channels_out, relu=False),
        )
        # Pooling uses every pixel; a strided convolution would skip three of four.
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(stride) if stride > 1 else nn.Identity(),
            _conv_norm(channels_in, channels_out, kernel_size=1, relu=False)
            if channels_in != channels_out
            else nn.Identity(),
        )

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(self.body(features) + self.shortcut(features))


def _conv_norm(
    channels_in: int, channels_out: int, *, kernel_size: int = 3, stride: int = 1, relu: bool = True
) -> nn.Sequential:
    """A padded convolution, batch norm, and ReLU where `relu` is set.

    torchvision has the same block, but its import adds 1.6 s to the start of every process.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(
            channels_in, channels_out, kernel_size, stride=stride, padding=kernel_size // 2, bias=False
        ),
        nn.BatchNorm2d(channels_out),
    ]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if relu else []))


ENCODERS: dict[str, Callable[[], Conv4Encoder | ResNetEncoder]] = {
    "conv4": Conv4Encoder,
    "resnet": lambda: ResNetEncoder(stem=32, blocks=[(64, 2), (128, 2), (128, 1)]),
    "resnet-large": lambda: ResNetEncoder(stem=48, blocks=[(96, 2), (192, 2), (192, 1)]),
}
"""The published encoder, the encoder of the shipped weights, and a larger one to teach it"""


def luminance(pixels: Tensor) -> Tensor:
    """Luminance (..., 1, H, W) of red, green and blue (..., 3, H, W), by ITU-R BT.601."""
    red, green, blue = pixels.unbind(dim=-3)
    return (0.299 * red + 0.587 * green + 0.114 * blue).unsqueeze(-3)


def conv_block(channels_in: int, channels_out: int, *, padding: int, pool: bool) -> nn.Sequential:
    """A block of 3x3 convolution, batch norm, 2x2 max-pool where `pool` is set, and ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=padding),
        nn.BatchNorm2d(channels_out),
    ]
    if pool:
        # Pooling first gives the same values, and ReLU then has a quarter of the elements.
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))
