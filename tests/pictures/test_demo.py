"""The demo: on scikit-learn's two photographs, with a small model in place of the bundled one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torch import Tensor, nn

from adios_zoo.pictures import demo

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


class FakeModel(nn.Module):
    """Mean colours of eight rows as features, which a mirror leaves alone; four equal masks."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.masker = nn.Identity()  # that there is one is all that is asked of it
        self.card = SimpleNamespace(
            name="fake_model", input_size=32, crop_pct=0.9, crop_mode="center", mean=MEAN, std=STD
        )
        self.transform = create_transform((3, 32, 32), mean=MEAN, std=STD, crop_pct=0.9)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(x, (8, 1)).flatten(1)

    def masks(self, x: Tensor) -> Tensor:
        return torch.full((len(x), 4, *x.shape[-2:]), 0.25)


def test_demo_finds_each_photograph_in_its_mirror(tmp_path, capsys):
    result = demo.show(FakeModel(), demo.sample_photographs(), tmp_path / "out")
    assert len(result.names) == 8
    assert result.features.shape == (8, 24)
    for name in ("china", "flower"):
        assert result.neighbours[f"{name} mirrored"][0] == name
        assert result.neighbours[name] == (f"{name} mirrored", pytest.approx(1, abs=1e-3))
    assert [path.name for path in result.pictures] == ["china.png", "flower.png"]
    printed = capsys.readouterr().out
    assert "(8, 24) float32" in printed
    assert "fake_model" in printed
    for path in result.pictures:
        assert path.is_file()
        assert str(path.resolve()) in printed
    assert max(map(len, printed.splitlines())) < 100 + len(str(tmp_path))


def test_views_show_the_parts_they_name():
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:, :3] = 200
    views = demo.views_of("p", Image.fromarray(pixels))
    assert list(views) == ["p", "p left half", "p right half", "p mirrored"]
    assert np.asarray(views["p left half"]).min() == 200
    assert np.asarray(views["p right half"]).max() == 0
    assert np.asarray(views["p mirrored"])[0, :, 0].tolist() == [0, 0, 0, 200, 200, 200]
