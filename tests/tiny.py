"""An encoder and images so small that whole runs take no time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from adios_zoo.features.extractor import FeatureExtractor
from tests.small_models import small_card


class TinyEncoder(nn.Module):
    """Mean colour and a few filters: enough to tell any two of the test images apart."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv = nn.Conv2d(3, 5, 3, bias=False)
        self.conv.weight.data = torch.randn(self.conv.weight.shape, generator=generator)
        self.drop = nn.Dropout(0.5)
        self.card = small_card(
            name="tiny", input_size=8, crop_pct=1.0, crop_mode="squash", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean((2, 3)), self.drop(self.conv(x)).mean((2, 3))], 1)


def tiny_extractor(**settings: object) -> FeatureExtractor:
    return FeatureExtractor(TinyEncoder(), **{"device": "cpu", "batch_size": 4, **settings})


def small_images(path: Path, *, count: int = 11) -> Path:
    path.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)).save(path / f"{i:02}.png")
    return path


def break_five(folder: Path) -> set[str]:
    whole = sorted(folder.iterdir())[0].read_bytes()
    (folder / "000_empty.jpg").touch()
    (folder / "03_cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "05_text.jpg").write_text("no picture")
    (folder / "07_gone.png").symlink_to(folder / "nowhere.png")
    (folder / "zz_head.png").write_bytes(whole[:20])
    return {"000_empty.jpg", "03_cut.png", "05_text.jpg", "07_gone.png", "zz_head.png"}
