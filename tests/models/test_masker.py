"""The masker against the authors' U-Net, and its handling of other sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from adios_zoo.errors import ConfigError
from adios_zoo.models.masker import Masker, default_blocks
from tests.conftest import OWN_GOLDEN, golden
from tests.reference import ours, read, sampled

HEADER, TENSORS = read(golden("unet.safetensors") / "unet.safetensors")


def cases(header: dict[str, Any]) -> list[tuple[int, int, str]]:
    return [(c["img_size"], c["num_blocks"], norm) for c in header["configurations"] for norm in c["norms"]]


@pytest.mark.parametrize(("size", "blocks", "norm"), cases(HEADER))
def test_reference(size: int, blocks: int, norm: str) -> None:
    masker = Masker(size, HEADER["N"], HEADER["filter_start"], norm, blocks).eval()
    prefix = f"{norm}_{size}_{blocks}."
    weights = {
        ours(k.removeprefix(prefix)).removeprefix("masker."): v
        for k, v in TENSORS.items()
        if k.startswith(f"{prefix}mask_")
    }
    masker.load_state_dict(weights)
    with torch.inference_mode():
        found = masker(TENSORS[f"{size}_{blocks}.input"])
    masks = f"{prefix}masks"
    assert (sampled(HEADER, masks, found) - TENSORS[masks]).abs().max() < 1e-5


def test_what_the_method_files_do_not_have_is_there() -> None:
    """Those have group norm and four blocks."""
    own = cases(read(OWN_GOLDEN / "unet.safetensors")[0])
    assert {norm for _, _, norm in own} >= {"in", "no"}
    assert {blocks for _, blocks, _ in own} >= {5, 6}


@pytest.mark.parametrize("size", [(32, 32), (40, 64), (17, 90), (64, 64)])
def test_any_size_goes_in_and_comes_out(size: tuple[int, int]) -> None:
    masker = Masker(32, slots=5, base_channels=8).eval()
    with torch.inference_mode():
        masks = masker(torch.randn(2, 3, *size))
    assert masks.shape == (2, 5, *size)
    assert float(masks.min()) >= 0
    assert (masks.sum(1) - 1).abs().max() < 1e-5


def test_a_smooth_image_has_the_same_masks_at_twice_the_size() -> None:
    masker = Masker(32, slots=3, base_channels=8).eval()
    ramp = torch.linspace(-2, 2, 32).expand(1, 3, 32, 32)
    large = torch.nn.functional.interpolate(ramp, (64, 64), mode="bilinear")
    with torch.inference_mode():
        small_masks, large_masks = masker(ramp), masker(large)
    back = torch.nn.functional.avg_pool2d(large_masks, 2)
    assert (back - small_masks).abs().mean() < 0.02


@pytest.mark.parametrize(("size", "blocks"), [(32, 4), (64, 5), (96, 5), (224, 6)])
def test_default_blocks(size: int, blocks: int) -> None:
    assert default_blocks(size) == blocks


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"image_size": 16, "slots": 4}, "blocks"),
        ({"image_size": 60, "slots": 4, "blocks": 5}, "16"),
        ({"image_size": 64, "slots": 0}, "slot"),
        ({"image_size": 64, "slots": 4, "norm": "bn"}, "norm"),
        ({"image_size": 64, "slots": 4, "base_channels": 12}, "multiples of 8"),
    ],
)
def test_impossible_maskers_are_refused(arguments: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        Masker(**arguments)
