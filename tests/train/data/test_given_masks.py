"""Masks that come with the data: drawn by object, cropped and flipped with their image, on both ways to the batch."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from adios_zoo.train.chance import Draws, generator_for
from adios_zoo.train.data.batches import Batch
from adios_zoo.train.data.feed import open_feed
from adios_zoo.train.data.given_masks import draw_objects
from adios_zoo.train.data.in_memory import load_images
from adios_zoo.train.data.plan import Plan
from adios_zoo.train.processes import Processes
from adios_zoo.train.recipe.settings import Recipe
from adios_zoo.train.run.pretraining import pretrain
from PIL import Image
from torch import Tensor

import adios_zoo
from adios_zoo.errors import ConfigError, DataError
from adios_zoo.sources.describe import describe
from adios_zoo.sources.open import open_source
from tests.train.data.test_batches import batches_of, same
from tests.train.small import small_recipe, write_images

UNCOLOURED = {"min_scale": 0.3, "jitter": 0.0, "grey": 0.0, "blur": 0.0}
AS_THEY_ARE = {"view1": UNCOLOURED, "view2": UNCOLOURED, "mean": [0.0] * 3, "std": [1.0] * 3}
GIVEN = {"kind": "given", "slots": 3}
BOTH = pytest.mark.parametrize("in_memory", ["yes", "no"])


def saved(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def marked(seed: int, width: int = 48, height: int = 40) -> tuple[Image.Image, Image.Image]:
    """An image with a red, a green and a blue rectangle on black, and their map: 1, 2 and 7."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.uint8)
    for third, value in enumerate((1, 2, 7)):
        top, left = rng.integers(0, height // 3), third * width // 3 + rng.integers(0, 4)
        labels[top : top + height // 2, left : left + width // 4] = value
    pixels = np.stack([labels == value for value in (1, 2, 7)], axis=2) * np.uint8(255)
    return Image.fromarray(pixels), Image.fromarray(labels)


def write_rows(path: Path, images: Sequence[bytes], masks: Sequence[bytes | None]) -> str:
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": image, "path": None} for image in images]
    pq.write_table(pa.table({"image": pa.array(rows, struct), "mask": pa.array(masks, pa.binary())}), path)
    return f"parquet:{path}"


@pytest.fixture
def source(tmp_path: Path) -> str:
    pairs = [marked(seed) for seed in range(24)]
    return write_rows(tmp_path / "marked.parquet", [saved(i) for i, _ in pairs], [saved(m) for _, m in pairs])


def recipe(**changes: Any) -> Recipe:
    return small_recipe(**({"masker": GIVEN, "epochs": 2} | AS_THEY_ARE | changes))


def shown(batch: Batch, view: int) -> Tensor:
    """Which rectangle each mask of a view (B, N, S, S) hides: 0, 1, 2; -1 where it is in none of them exactly."""
    difference = (batch.masks[view][:, :, None] - batch.views[view][:, None]).abs().amax(dim=(3, 4))
    least, which = difference.min(dim=2)
    return torch.where(least < 0.01, which, -1)


@BOTH
@pytest.mark.parametrize("use", ["one", "all"])
def test_masks_follow_the_crop_and_the_flip_of_their_image(source: str, in_memory: str, use: str) -> None:
    game = {"mask_use": use, "projector_hidden": 16}
    batches = batches_of(source, recipe(in_memory=in_memory, game=game))
    hidden = []
    for batch in batches:
        for view in (1, 2):
            masks = batch.masks[view]
            assert masks.shape == (8, 3 if use == "all" else 1, 32, 32)
            assert masks.dtype == torch.float32
            assert masks.min() >= 0
            assert masks.max() <= 1
            assert (shown(batch, view) >= 0).all()
        both = torch.stack([shown(batch, view) for view in (1, 2)])
        seen = torch.stack([batch.masks[view].amax(dim=(2, 3)) > 0.5 for view in (1, 2)])
        # An object outside a crop leaves its mask empty; else both views hide the same.
        assert torch.equal(both[0][seen.all(0)], both[1][seen.all(0)])
        hidden += both[0][seen[0]].tolist()
    assert set(hidden) == {0, 1, 2}


@BOTH
def test_a_batch_depends_on_seed_and_number_alone(source: str, in_memory: str) -> None:
    settings = recipe(in_memory=in_memory)
    whole = batches_of(source, settings)
    assert all(same(a, b) for a, b in zip(whole[2:], batches_of(source, settings, first=2), strict=True))
    halves = [batches_of(source, settings, rank=rank, count=2) for rank in (0, 1)]
    for batch, *parts in zip(whole, *halves, strict=True):
        for view in (1, 2):
            joined = torch.cat([part.masks[view] for part in parts])
            torch.testing.assert_close(joined, batch.masks[view], rtol=0, atol=1e-5)
    unmasked = batches_of(source, recipe(in_memory=in_memory, masker={"kind": "none"}))
    for a, b in zip(whole, unmasked, strict=True):
        assert not b.masks
        torch.testing.assert_close(a.views, b.views, rtol=0, atol=1e-5)


def test_worker_processes_give_the_same_masks(source: str) -> None:
    settings = recipe(in_memory="no", epochs=1)
    pairs = zip(batches_of(source, settings), batches_of(source, settings, workers=2), strict=True)
    assert all(same(a, b) for a, b in pairs)


def draws(count: int, part: slice = slice(None)) -> Draws:
    return Draws(generator_for(0, "test", 0), count, part)


def test_every_object_is_as_likely_and_an_image_without_objects_has_empty_masks() -> None:
    values = torch.tensor([0, 0, 3, 3, 3, 200, 255, 0], dtype=torch.uint8).view(1, 2, 4)
    maps = torch.cat([values.expand(3000, -1, -1), torch.zeros_like(values)])
    found = draw_objects(maps, 2, draws(3001))
    assert found.shape == (3001, 2, 2, 4)
    assert not found[-1].any()
    for k in range(2):
        hidden = torch.where(found[:-1, k] == 255, maps[:-1], 0).amax(dim=(1, 2))
        assert torch.equal(found[:-1, k], (maps[:-1] == hidden[:, None, None]).to(torch.uint8) * 255)
        shares = [(hidden == value).float().mean().item() for value in (3, 200, 255)]
        assert shares == pytest.approx([1 / 3] * 3, abs=0.04)
    assert 0.25 < (found[:-1, 0] == found[:-1, 1]).all(dim=(1, 2)).float().mean() < 0.42
    parts = [draw_objects(maps[s], 2, draws(3001, s)) for s in (slice(1000), slice(1000, 3001))]
    assert torch.equal(torch.cat(parts), found)


@pytest.mark.parametrize(("method", "use"), [("simclr", "all"), ("byol", "one"), ("simsiam", "all")])
@BOTH
def test_runs(source: str, tmp_path: Path, in_memory: str, method: str, use: str) -> None:
    game = {"method": method, "mask_use": use, "projector_hidden": 16, "projector_output": 8, "predictor_hidden": 8}
    folder = pretrain(recipe(in_memory=in_memory, game=game), source, tmp_path / "run", workers=0, show_progress=False)
    model = adios_zoo.load_model(folder)
    assert model.card.masker is None
    assert model.card.summary.endswith(f"{method} with objects that the data mark masked, on shapes.")
    record = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[0])
    area = [value for name, value in record.items() if name.startswith("area_")]
    assert len(area) == (3 if use == "all" else 1)
    assert all(0.03 < a < 0.3 for a in area)


def test_masks_are_part_of_the_data_that_a_run_goes_on_with(source: str, tmp_path: Path) -> None:
    settings = recipe(in_memory="yes", epochs=1)
    folder = pretrain(settings, source, tmp_path / "run", show_progress=False)
    assert pretrain(settings, source, tmp_path / "run", resume=True, show_progress=False) == folder
    images = [ref.encoded() for ref in open_source(source) if ref.encoded]
    masks = [saved(marked(seed + 1)[1]) for seed in range(24)]
    other = write_rows(tmp_path / "other.parquet", images, masks)
    with pytest.raises(DataError, match="holds other images"):
        pretrain(settings, other, tmp_path / "run", resume=True, show_progress=False)


@BOTH
def test_images_without_masks_are_refused_before_the_run(tmp_path: Path, in_memory: str) -> None:
    unmasked = write_images(tmp_path / "data.parquet")
    with pytest.raises(ConfigError, match=r"masker\.kind=given takes .*data\.parquet has none; add a column mask"):
        open_feed(unmasked, recipe(in_memory=in_memory))


def test_settings_of_the_masker_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"masker\.freeze_after belongs to masker\.kind=learned, not to given"):
        recipe(masker=GIVEN | {"freeze_after": 1})


BAD = {
    "it has no content": None,
    "the file is empty": b"",
    "not an image": b"no mask",
    "truncated or damaged": saved(marked(0)[1])[:60],
    "a PNG of mode RGB, not a PNG with one number of 8 bits an object": saved(marked(0)[0]),
    "a JPEG of mode L, not": saved(marked(0)[1], "JPEG"),
    "has 40 x 48 pixels, the image 48 x 40": saved(marked(0, 40, 48)[1]),
}


@BOTH
@pytest.mark.parametrize("reason", BAD)
def test_an_image_with_a_bad_mask_is_left_out_and_listed(tmp_path: Path, in_memory: str, reason: str) -> None:
    pairs = [marked(seed) for seed in range(12)]
    masks = [saved(mask) for _, mask in pairs]
    source = write_rows(tmp_path / "bad.parquet", [saved(i) for i, _ in pairs], [*masks[:5], BAD[reason], *masks[6:]])
    settings = recipe(in_memory=in_memory, max_bad_share=0.1, epochs=4)
    feed = open_feed(source, settings)
    plan = Plan(settings, feed.count, Processes())
    batches = feed.batches(plan, first=0, workers=0)
    for number in range(plan.batches):
        batch = batches(number, plan.draws(number))
        assert (shown(batch, 2) >= 0).all()
    ((where, why),) = batches.failures
    assert where.endswith("bad.parquet[5]")
    assert why.startswith("its mask")
    assert reason in why


def test_palettes_bitmaps_and_grey_maps_keep_their_numbers(tmp_path: Path) -> None:
    image, grey = marked(0)
    palette = grey.copy()
    palette.putpalette([value for number in range(256) for value in (255 - number, number // 2, 9)])
    bitmap = grey.point(lambda value: 255 * (value > 0)).convert("1")
    path = write_rows(tmp_path / "a.parquet", [saved(image)] * 3, [saved(m) for m in (grey, palette, bitmap)])
    masks = [np.asarray(ref.mask()) for ref in open_source(path) if ref.mask]
    assert (masks[0] == np.asarray(grey)).all()
    assert (masks[1] == np.asarray(grey)).all()
    assert (masks[2] == 255 * (np.asarray(grey) > 0)).all()


def test_a_mask_column_is_read_only_when_masks_are_asked_for(source: str, tmp_path: Path) -> None:
    opened = open_source(source)
    for ref in (*opened, opened[3]):
        ref.read()
    assert {key[2] for key in opened._groups()._kept} == {"image"}
    assert load_images(source).masks is None
    (passing,), reached = opened.iterate(3, 4), opened[3]
    assert passing.mask
    assert reached.mask
    assert passing.mask().tobytes() == reached.mask().tobytes() == marked(3)[1].tobytes()
    assert list(describe(source))[-1].endswith("48 x 40, with a mask")
    table = pq.read_table(source.partition(":")[2])
    pq.write_table(table.set_column(1, "mask", pa.array([[0, 1]] * 24)), tmp_path / "tokens.parquet")
    assert open_source(tmp_path / "tokens.parquet")[0].mask is None


def test_maps_in_memory_have_the_size_of_the_images_and_no_new_numbers(source: str) -> None:
    data = load_images(source, size=24, masks=True)
    assert data.images.shape == (24, 3, 24, 24)
    assert data.masks is not None
    assert data.masks.shape == (24, 24, 24)
    assert data.masks.unique().tolist() == [0, 1, 2, 7]
    red = data.images[:, 0].float() / 255
    assert ((data.masks == 1).float() - red).abs().mean() < 0.03


def test_some_files_without_masks_give_images_that_cannot_be_read(source: str, tmp_path: Path) -> None:
    table = pq.read_table(source.partition(":")[2])
    pq.write_table(table.drop_columns("mask").slice(0, 1), tmp_path / "unmasked.parquet")
    data = load_images(f"parquet:{tmp_path}/*.parquet", masks=True, max_bad_share=0.1)
    assert data.failures == [(f"{tmp_path}/unmasked.parquet[0]", "it has no mask")]
