"""Observers see what is there, and leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from adios_zoo.train.data.in_memory import ImageSet, load_images
from adios_zoo.train.recipe.settings import ObserveSettings
from adios_zoo.train.report.observe import Observer, choose_shown
from adios_zoo.train.report.pictures import picture_path, read_picture
from adios_zoo.train.report.record import RunLog, read_records
from PIL import Image
from torch import Tensor, nn

from adios_zoo.errors import ConfigError, DataError
from adios_zoo.images.image import ImageRef
from adios_zoo.pictures.draw import slot_rgb
from adios_zoo.sources.open import open_source
from adios_zoo.sources.source import Source, Stream
from tests.small_models import small_card
from tests.train.small import small_recipe, write_images

SETTINGS = ObserveSettings(pictures=4, gallery=30, queries=10, k=3)


class MeanColour(nn.Module):
    """An encoder that tells the classes of ``write_images`` apart; its batch norm and dropout must not stir."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.BatchNorm2d(3).eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.norm(x)).mean(dim=(2, 3))


class LeftAndRight(nn.Module):
    """A masker whose slot 0 is the left half, slot 1 the right half, slot 2 nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        masks = torch.zeros(len(x), 3, *x.shape[2:])
        half = x.shape[-1] // 2
        masks[:, 0, :, :half] = masks[:, 1, :, half:] = 1
        return masks * self.weight


def images(tmp_path: Path, count: int = 48) -> ImageSet:
    return load_images(write_images(tmp_path / f"{count}.parquet", count=count))


def observer(data: ImageSet, **changes: object) -> Observer:
    settings = ObserveSettings(**{**SETTINGS.__dict__, **changes})  # type: ignore[arg-type]
    shown = choose_shown(data, None, settings, seed=0, side=32)
    return Observer(settings, shown, MeanColour(), LeftAndRight(), small_card(crop_pct=1.0), [32, 32, 40])


def test_knn_and_pictures(tmp_path: Path) -> None:
    watch = observer(images(tmp_path))
    with RunLog(tmp_path / "log.jsonl") as log:
        for epoch in range(3):
            found = watch.look(tmp_path, log, epoch=epoch, step=6 * epoch)
            assert found["knn_top1"] == 100.0
    assert [(r["epoch"], r["step"], r["knn_top1"]) for r in read_records(tmp_path / "log.jsonl")] == [
        (epoch, 6 * epoch, 100.0) for epoch in range(3)
    ]
    picture = read_picture(picture_path(tmp_path, 2))
    assert (picture.epoch, picture.images, picture.slots) == (2, 4, 3)
    left = np.asarray(picture.tile(3, 2), np.float32)[:, 8:48] / 255
    assert np.abs(left - slot_rgb(0)).max() < 0.01
    assert np.asarray(picture.tile(3, 4)).min() > 250  # the empty mask, on white
    photo = np.asarray(picture.tile(0, 0), np.float32).mean((0, 1))
    wanted = watch.shown.pictures[0].float().mean((1, 2)).numpy()
    assert np.abs(photo - wanted).max() < 2


def test_looking_changes_nothing(tmp_path: Path) -> None:
    watch = observer(images(tmp_path))
    watch.encoder.train()
    watch.encoder.frozen.eval()  # type: ignore[union-attr]
    state = {k: v.clone() for k, v in watch.encoder.state_dict().items()}
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with RunLog(tmp_path / "log.jsonl") as log:
        watch.look(tmp_path, log, epoch=0, step=0)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(v, state[k]) for k, v in watch.encoder.state_dict().items())
    flags = {name: module.training for name, module in watch.encoder.named_modules()}
    assert flags == {"": True, "norm": True, "dropout": True, "frozen": False}
    assert all(p.grad is None and p.requires_grad for p in watch.encoder.parameters())


def test_gallery_and_queries_have_no_image_in_common(tmp_path: Path) -> None:
    data = images(tmp_path)
    shown = choose_shown(data, None, SETTINGS, seed=0, side=32)
    assert shown.gallery is not None
    assert shown.queries is not None
    assert (len(shown.gallery), len(shown.queries)) == (30, 10)
    seen = {image.numpy().tobytes() for image in shown.gallery.images}
    assert not any(image.numpy().tobytes() in seen for image in shown.queries.images)
    again = choose_shown(data, None, SETTINGS, seed=0, side=32)
    assert torch.equal(again.pictures, shown.pictures)


def test_fewer_images_than_asked_for(tmp_path: Path) -> None:
    shown = choose_shown(images(tmp_path, 20), None, SETTINGS, seed=0, side=32)
    assert shown.gallery is not None
    assert shown.queries is not None
    assert (len(shown.gallery), len(shown.queries)) == (15, 5)


@pytest.mark.parametrize("kind", [Source, Stream])
def test_images_that_are_not_in_memory(tmp_path: Path, kind: type) -> None:
    source = open_source(write_images(tmp_path / "data.parquet", side=40, broken=(5,)))
    if kind is Stream:
        source = OnlyInOrder(source)
    shown = choose_shown(source, None, SETTINGS, seed=0, side=32)
    assert shown.pictures.shape == (4, 3, 32, 32)
    assert shown.gallery is not None
    assert shown.queries is not None
    assert len(shown.gallery) + len(shown.queries) in (39, 40)  # the broken one may be among them
    # The label is the channel of the square.
    brightest = shown.gallery.images.float().mean((2, 3)).argmax(1)
    assert torch.equal(brightest, shown.gallery.labels)


class OnlyInOrder(Stream):
    def __init__(self, source: Stream) -> None:
        self.source, self.spec = source, source.spec

    def iterate(self, start: int = 0, stop: int | None = None) -> Iterator[ImageRef]:
        return self.source.iterate(start, stop)

    def fingerprint(self) -> str:
        return self.source.fingerprint()


def test_held_out_images_are_the_queries(tmp_path: Path) -> None:
    data, held_out = images(tmp_path), open_source(write_images(tmp_path / "held out.parquet", count=12, side=40))
    shown = choose_shown(data, held_out, SETTINGS, seed=0, side=32)
    assert shown.gallery is not None
    assert shown.queries is not None
    assert (len(shown.gallery), len(shown.queries)) == (30, 10)
    seen = {image.numpy().tobytes() for image in data.images}
    assert not any(image.numpy().tobytes() in seen for image in shown.queries.images)


def test_held_out_images_need_labels(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="no labels"):
        choose_shown(images(tmp_path), open_source(str(tmp_path / "a.png")), SETTINGS, seed=0, side=32)


def test_without_labels_or_masker(tmp_path: Path) -> None:
    data = images(tmp_path)
    data.labels.fill_(-1)
    watch = observer(data)
    watch.masker = None
    with RunLog(tmp_path / "log.jsonl") as log:
        assert watch.look(tmp_path, log, epoch=0, step=0) == {}
    assert read_records(tmp_path / "log.jsonl") == []
    assert not (tmp_path / "pictures").exists()


@pytest.mark.parametrize(
    ("every", "epochs", "looks"),
    [(None, 3, [0, 1, 2, 3]), (None, 400, list(range(0, 401, 20))), (2, 5, [0, 2, 4, 5]), (0, 5, [])],
)
def test_when_it_looks(tmp_path: Path, every: int | None, epochs: int, looks: list[int]) -> None:
    watch = observer(images(tmp_path), pictures_every=every, knn_every=every)
    watch.sizes = [16] * (epochs + 1)
    watch.masker = None
    with RunLog(tmp_path / "log.jsonl") as log:
        for epoch in range(epochs + 1):
            watch.look(tmp_path, log, epoch=epoch, step=epoch)
    assert [r["epoch"] for r in read_records(tmp_path / "log.jsonl")] == looks


def test_impossible_settings() -> None:
    with pytest.raises(ConfigError, match=r"(?s)observe: k must be at least 1"):
        small_recipe(observe={"k": 0})
    with pytest.raises(ConfigError, match="observe: knn_every must be 0 for never"):
        small_recipe(observe={"knn_every": -1})
    with pytest.raises(ConfigError, match="trackers"):
        small_recipe(observe={"trackers": ["papyrus"]})
