"""The masker against the authors' U-Net, and its handling of other sizes."""

from __future__ import annotations

import pytest
import torch

from adios_zoo.errors import ConfigError
from adios_zoo.models.masker import Masker, default_blocks
from tests.conftest import GOLDEN
from tests.reference import ours, read

HEADER, TENSORS = read(GOLDEN / "unet.safetensors")
CASES = [(c["img_size"], c["num_blocks"], norm) for c in HEADER["configurations"] for norm in c["norms"]]


@pytest.mark.parametrize(("size", "blocks", "norm"), CASES)
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
    assert (found - TENSORS[f"{prefix}masks"]).abs().max() < 1e-5


def test_all_twelve_configurations_are_there() -> None:
    assert len(CASES) == 12


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
