"""The masker: a U-Net that writes N soft masks on an image (Shi et al., ICML 2022, section 3 and appendix).

Names follow the paper and the released weights: ``down`` and ``up`` are the two arms of the U-Net, ``mlp`` its
fully connected bottleneck, ``head`` the 1x1 convolution before the softmax over the N slots.
"""

from __future__ import annotations

from typing import cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adios_zoo.errors import ConfigError
from adios_zoo.models.card import Norm

# Output channels of each block, in units of the base width, by number of blocks.
_DOWN = {4: (1, 2, 2, 2), 5: (1, 1, 2, 2, 2), 6: (1, 1, 1, 2, 2, 2)}
_UP = {4: (2, 2, 1, 1), 5: (2, 2, 1, 1, 1), 6: (2, 2, 1, 1, 1, 1)}
_BOTTLENECK = 128


def default_blocks(image_size: int) -> int:
    """Blocks that the SimCLR and BYOL recipes take for an image size: floor(log2(size) - 1), so 64 -> 5."""
    return image_size.bit_length() - 2


class Masker(nn.Module):
    """N soft masks of an image: (B, 3, H, W) -> (B, N, H, W), each in [0, 1], summing to one over N.

    The bottleneck is fully connected, so the U-Net works at one size; an image of any other size is resized to
    it (bilinear, antialiased) and its masks are resized back (bilinear), which keeps their sum at one.

    Args:
        image_size: side of the square that the U-Net works on, in pixels, a multiple of ``2 ** (blocks - 1)``.
        slots: N, the number of masks.
        base_channels: width of the first block (``mask_fbase`` in the authors' release).
        norm: ``gn`` group norm with 8 groups, ``in`` affine instance norm, ``no`` none.
        blocks: 4, 5 or 6 blocks an arm; ``None`` takes :func:`default_blocks`.

    Raises:
        ConfigError: for a combination that no U-Net has.
    """

    def __init__(
        self,
        image_size: int,
        slots: int,
        base_channels: int = 32,
        norm: Norm = "gn",
        blocks: int | None = None,
    ) -> None:
        super().__init__()
        blocks = default_blocks(image_size) if blocks is None else blocks
        check_masker(image_size, slots, base_channels, norm, blocks)
        self.image_size, self.slots, self.blocks = image_size, slots, blocks
        down = [base_channels * width for width in _DOWN[blocks]]
        up = [base_channels * width for width in _UP[blocks]]
        self.down = nn.ModuleList(_block(i, o, norm) for i, o in zip([3, *down[:-1]], down, strict=True))
        up_inputs = [2 * down[-1]] + [u + d for u, d in zip(up[:-1], reversed(down[:-1]), strict=True)]
        self.up = nn.ModuleList(_block(i, o, norm) for i, o in zip(up_inputs, up, strict=True))
        side = image_size // 2 ** (blocks - 1)
        flat = down[-1] * side * side
        self.mlp = nn.Sequential(
            nn.Flatten(),
            nn.Linear(flat, _BOTTLENECK),
            nn.ReLU(),
            nn.Linear(_BOTTLENECK, _BOTTLENECK),
            nn.ReLU(),
            nn.Linear(_BOTTLENECK, flat),
            nn.ReLU(),
        )
        self.head = nn.Conv2d(up[-1], slots, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Masks of the images ``x`` (B, 3, H, W), of any size: (B, N, H, W)."""
        size = (self.image_size, self.image_size)
        if x.shape[-2:] == size:
            return self._masks(x)
        small = F.interpolate(x, size, mode="bilinear", antialias=True)
        return F.interpolate(self._masks(small), x.shape[-2:], mode="bilinear")

    def _masks(self, x: Tensor) -> Tensor:
        skips = []
        for i, block in enumerate(self.down):
            # Nearest-neighbour halving takes every second row and column, from the first.
            x = block(x if i == 0 else x[..., ::2, ::2])
            skips.append(x)
        x = self.mlp(x).reshape(x.shape)
        for i, block in enumerate(self.up):
            if i > 0:
                x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = block(torch.cat([x, skips.pop()], dim=1))
        return cast("Tensor", self.head(x)).softmax(dim=1)


def _block(inputs: int, outputs: int, norm: Norm) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=norm == "no")]
    if norm == "gn":
        layers.append(nn.GroupNorm(8, outputs))
    elif norm == "in":
        layers.append(nn.InstanceNorm2d(outputs, affine=True))
    return nn.Sequential(*layers, nn.ReLU())


def check_masker(image_size: int, slots: int, base_channels: int, norm: str, blocks: int) -> None:
    """Refuse, as a ConfigError, what no :class:`Masker` can be made with."""
    if blocks not in _DOWN:
        raise ConfigError(
            f"The masker has 4, 5 or 6 blocks, not {blocks}; for {image_size}-pixel images set blocks yourself."
        )
    if image_size <= 0 or image_size % 2 ** (blocks - 1):
        raise ConfigError(
            f"A masker of {blocks} blocks needs an image size that {2 ** (blocks - 1)} divides, not {image_size}."
        )
    if slots < 1:
        raise ConfigError(f"The masker needs at least one slot, not {slots}.")
    if norm not in get_args(Norm):
        raise ConfigError(f"The masker's norm is one of {', '.join(get_args(Norm))}, not {norm!r}.")
    if base_channels < 1 or (norm == "gn" and base_channels % 8):
        raise ConfigError(f"Group norm needs base channels in multiples of 8, not {base_channels}.")
