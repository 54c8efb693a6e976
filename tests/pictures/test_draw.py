"""Contact sheets: the right crop, masks that still sum to one, colours that are what the encoder is given."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torch import Tensor, nn

from adios_zoo.errors import ConfigError, DataError
from adios_zoo.pictures import draw, page

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.25, 0.25)


class FakeModel(nn.Module):
    """Plants its masks: slot 0 holds the left quarter, slot 1 the rest but for a tenth, slot 2 that tenth."""

    def __init__(self, size=32, crop_pct=0.875, crop_mode="center"):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.card = SimpleNamespace(
            name="fake_model", input_size=size, crop_pct=crop_pct, crop_mode=crop_mode, mean=MEAN, std=STD
        )
        self.transform = create_transform(
            (3, size, size),
            mean=MEAN,
            std=STD,
            crop_pct=crop_pct,
            crop_mode=crop_mode,
            interpolation="bicubic",
        )

    def masks(self, x: Tensor) -> Tensor:
        size = x.shape[-1]
        masks = torch.zeros(len(x), 3, size, size)
        masks[:, 0, :, : size // 4] = 1
        masks[:, 1, :, size // 4 :] = 0.9
        masks[:, 2, :, size // 4 :] = 0.1
        return masks


def photograph(width: int, height: int) -> Image.Image:
    """Smooth colours, different at every place, so that a wrong crop shows."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    colours = np.stack([x, y, (np.sin(9 * x) + np.cos(7 * y) + 2) / 4], axis=-1)
    return Image.fromarray((255 * colours).astype(np.uint8))


def random_masks(slots: int, size: int, seed: int = 0) -> np.ndarray:
    logits = 4 * np.random.default_rng(seed).normal(size=(slots, size, size))
    weights = np.exp(logits)
    return (weights / weights.sum(0)).astype(np.float32)


@pytest.mark.parametrize("crop_mode", ["center", "squash"])
@pytest.mark.parametrize("crop_pct", [0.7, 0.875, 1.0])
@pytest.mark.parametrize("shape", [(640, 427), (301, 500), (333, 333), (40, 500), (20, 25)])
def test_display_crop_is_the_crop_that_the_model_sees(crop_mode, crop_pct, shape):
    model = FakeModel(crop_pct=crop_pct, crop_mode=crop_mode)
    image = photograph(*shape)
    seen = model.transform(image).permute(1, 2, 0).numpy() * np.array(STD) + np.array(MEAN)
    shown = draw.display_crop(image, model.card, 320)
    assert shown.size == (320, 320)
    reduced = np.asarray(shown.resize((32, 32), Image.Resampling.BICUBIC)) / 255
    difference = np.abs(reduced - seen)
    assert difference.mean() < 0.012
    assert difference.mean(axis=2)[4:-4, 14:18].max() < 0.06


def test_crop_box_in_numbers():
    # A short side of 400 becomes floor(64 / 0.875) = 73, of which the middle 64 from pixel round(4.5) = 4.
    card = SimpleNamespace(input_size=64, crop_pct=0.875, crop_mode="center")
    left, top, right, bottom = draw.crop_box(400, 400, card)
    assert (left, right) == pytest.approx((4 / 73 * 400, 68 / 73 * 400))
    assert (top, bottom) == (left, right)
    card = SimpleNamespace(input_size=64, crop_pct=1.0, crop_mode="center")
    assert draw.crop_box(800, 400, card) == pytest.approx((200, 0, 600, 400))
    assert draw.crop_box(400, 800, card) == pytest.approx((0, 200, 400, 600))
    card.crop_mode = "squash"
    assert draw.crop_box(800, 400, card) == pytest.approx((0, 0, 800, 400))


@pytest.mark.parametrize("size", [20, 64, 224])
def test_resized_masks_sum_to_one(size):
    masks = random_masks(5, 64)
    resized = draw.resize_masks(masks, size)
    assert resized.shape == (5, size, size)
    assert resized.dtype == np.float32
    assert resized.min() >= 0
    assert resized.max() <= 1
    np.testing.assert_allclose(resized.sum(0), 1, atol=1e-5)


def test_resized_masks_stay_where_they_were():
    masks = np.zeros((2, 16, 16), np.float32)
    masks[0, :8], masks[1, 8:] = 1, 1
    resized = draw.resize_masks(masks, 160)
    assert resized[0, :70].min() > 0.99
    assert resized[1, 90:].min() > 0.99


def test_area_percentages():
    masks = np.zeros((3, 10, 10), np.float32)
    masks[0, :, :2], masks[1, :, 2:], masks[2, :, 2:] = 1, 0.75, 0.25
    assert draw.area_percentages(masks) == [20, 60, 20]


def test_cut_out_is_the_encoders_view_in_colours():
    rng = np.random.default_rng(1)
    photo = rng.random((8, 8, 3)).astype(np.float32)
    mask = rng.random((8, 8)).astype(np.float32)
    mask[0], mask[1] = 1, 0
    shown = draw.cut_out(photo, mask, MEAN)
    np.testing.assert_allclose(shown[0], np.broadcast_to(MEAN, (8, 3)), atol=1e-6)
    np.testing.assert_array_equal(shown[1], photo[1])
    normalised = (photo - np.array(MEAN)) / np.array(STD) * (1 - mask[..., None])
    np.testing.assert_allclose(shown, normalised * np.array(STD) + np.array(MEAN), atol=1e-6)


def test_composite_paints_each_place_in_its_masks_colour():
    masks = np.zeros((2, 4, 4), np.float32)
    masks[0, :, :2], masks[1, :, 2:] = 1, 1
    painted = draw.composite(np.full((4, 4, 3), 0.5, np.float32), masks)
    assert painted[0, 0, 2] > painted[0, 0, 0]  # slot 1 is blue
    assert painted[0, 3, 0] > painted[0, 3, 2]  # slot 2 is orange


@pytest.mark.parametrize("slots", [1, 4, 6, 10])
def test_mask_sheet_has_a_column_per_slot(slots, monkeypatch):
    headings = []
    original = page.Page.text

    def spy(self, at, text, *rest, **options):
        headings.append(text)
        original(self, at, text, *rest, **options)

    monkeypatch.setattr(page.Page, "text", spy)
    masks = random_masks(slots, 32)
    sheet = draw.mask_sheet(photograph(90, 90), masks, mean=MEAN, title="a" * 300 + "é中.jpg", caption="fake")
    assert sheet.mode == "RGB"
    assert 600 < sheet.width < 3000
    assert 800 < sheet.height < 1100
    for k, percent in enumerate(draw.area_percentages(masks)):
        assert f"Mask {k + 1}, {percent} % of the area" in headings
    # Nothing, the long title included, runs into the right margin.
    edge = np.asarray(sheet)[:, -30:].reshape(-1, 3)
    assert (edge == edge[0]).all()


def save(image: Image.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def test_draw_masks_of_a_folder(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    save(photograph(60, 40), source / "a.png")
    save(photograph(40, 60), source / "a.jpg")
    save(photograph(50, 50), source / "sub" / "a.jpg")
    (source / "broken.jpg").write_bytes(b"no picture")
    report = draw.draw_masks(FakeModel(), source, out, save_npy=True, progress=False)

    expected = {"a.png", "a-2.png", "sub/a.png"}
    assert {path.relative_to(out).as_posix() for path in report.written} == expected
    assert [Path(error.id).name for error in report.failures] == ["broken.jpg"]
    assert "not an image" in report.failures[0].reason
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert files == expected | {name.replace(".png", ".npy") for name in expected}
    for path in report.written:
        with Image.open(path) as sheet:
            sheet.load()
            assert sheet.width > sheet.height * 0.9
        masks = np.load(path.with_suffix(".npy"))
        assert masks.shape == (3, 32, 32)
        assert masks.dtype == np.float32
        np.testing.assert_allclose(masks.sum(0), 1, atol=1e-5)


def test_draw_masks_of_listed_files_writes_no_npy_unasked(tmp_path):
    paths = [
        save(photograph(30, 30), tmp_path / "x" / "one.png"),
        save(photograph(30, 30), tmp_path / "y" / "one.v2.png"),
        save(photograph(30, 30), tmp_path / "y" / "One.v2.jpg"),
    ]
    out = tmp_path / "out"
    report = draw.draw_masks(FakeModel(), [str(path) for path in paths], out, progress=False)
    assert report.failures == ()
    assert [path.relative_to(out).as_posix() for path in report.written] == [
        "x/one.png",
        "y/one.v2.png",
        "y/One.v2-2.png",
    ]
    assert not list(out.rglob("*.npy"))


def test_images_on_two_drives_go_by_their_bare_names(tmp_path, monkeypatch):
    def refuse(_):
        raise ValueError("Paths don't have the same drive")

    paths = [save(photograph(30, 30), tmp_path / folder / "one.png") for folder in "xy"]
    monkeypatch.setattr(draw.os.path, "commonpath", refuse)
    report = draw.draw_masks(FakeModel(), paths, tmp_path / "out", progress=False)
    assert [path.name for path in report.written] == ["one.png", "one-2.png"]
    assert {path.parent for path in report.written} == {tmp_path / "out"}


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "out").write_text("a file")
    picture = save(photograph(30, 30), tmp_path / "a.png")
    with pytest.raises(DataError, match="out"):
        draw.draw_masks(FakeModel(), [picture], tmp_path / "out", progress=False)


def test_no_image_is_overwritten(tmp_path):
    picture = save(photograph(30, 30), tmp_path / "a.png")
    before = picture.read_bytes()
    with pytest.raises(ConfigError, match=r"a\.png"):
        draw.draw_masks(FakeModel(), tmp_path, tmp_path, progress=False)
    assert picture.read_bytes() == before
