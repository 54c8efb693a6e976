"""Batches from memory, files and streams: functions of seed and number, whatever process, wherever a run goes on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from adios_zoo.train.chance import generator_for
from adios_zoo.train.data.batches import Batch, Batches, Incoming
from adios_zoo.train.data.crops import crops_of_stream, shuffled
from adios_zoo.train.data.feed import open_feed
from adios_zoo.train.data.plan import Plan
from adios_zoo.train.processes import Processes
from adios_zoo.train.recipe.settings import Recipe
from adios_zoo.train.run.pretraining import pretrain
from PIL import Image
from safetensors.torch import load_file

from adios_zoo.errors import ConfigError, DataError
from adios_zoo.images.image import ImageRef
from adios_zoo.sources.open import open_source
from adios_zoo.sources.source import Stream
from tests.train.small import small_recipe, write_images


@pytest.fixture
def photos(tmp_path: Path) -> str:
    """Two classes of images of many sizes."""
    rng = np.random.default_rng(0)
    for i in range(20):
        folder = tmp_path / "photos" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        side = 40 + 7 * i
        pixels = np.full((side, 2 * side, 3), 10 * i, np.uint8) + rng.integers(
            0, 9, (side, 2 * side, 3), dtype=np.uint8
        )
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return str(tmp_path / "photos")


def batches_of(
    source: str, recipe: Recipe, *, first: int = 0, workers: int = 0, rank: int = 0, count: int = 1
) -> list[Batch]:
    feed = open_feed(source, recipe)
    plan = Plan(recipe, feed.count, Processes(rank=rank, count=count))
    batches = feed.batches(plan, first=first, workers=workers)
    return [batches(number, plan.draws(number)) for number in range(first, plan.batches)]


def same(a: Batch, b: Batch) -> bool:
    pairs = [(getattr(a, name), getattr(b, name)) for name in ("views", "masks")]
    close = all(torch.allclose(x[v], y[v], rtol=0, atol=1e-5) for x, y in pairs for v in x)
    return close and torch.equal(a.labels, b.labels) and torch.equal(a.images, b.images)


@pytest.mark.parametrize("in_memory", ["yes", "no"])
def test_a_batch_depends_on_seed_and_number_alone(photos: str, in_memory: str) -> None:
    recipe = small_recipe(in_memory=in_memory, epochs=2, batch_size=4, sizes={1: 24})
    whole = batches_of(photos, recipe)
    assert [b.views[1].shape[-1] for b in whole] == [32] * 5 + [24] * 5
    for a, b in zip(whole[3:], batches_of(photos, recipe, first=3), strict=True):
        assert same(a, b)
    halves = [batches_of(photos, recipe, rank=rank, count=2) for rank in (0, 1)]
    for number, batch in enumerate(whole):
        parts = [half[number] for half in halves]
        joined = Batch(
            {v: torch.cat([p.views[v] for p in parts]) for v in (1, 2)},
            torch.cat([p.labels for p in parts]),
            torch.cat([p.images for p in parts]),
        )
        assert same(joined, batch)
    assert sorted(torch.cat([b.images for b in whole[:5]]).tolist()) == list(range(20))
    assert not same(whole[0], batches_of(photos, small_recipe(in_memory=in_memory, batch_size=4, seed=1))[0])


def test_labels_and_pictures_belong_together(photos: str) -> None:
    plain = {"min_scale": 1.0, "flip": 0.0, "jitter": 0.0, "grey": 0.0, "blur": 0.0}
    unit = {"mean": [0.0] * 3, "std": [1.0] * 3}
    recipe = small_recipe(in_memory="no", batch_size=4, view1=plain, view2=plain, **unit)
    source = open_source(photos)
    for batch in batches_of(photos, recipe)[:5]:
        for place, label, view in zip(batch.images.tolist(), batch.labels.tolist(), batch.views[1], strict=True):
            ref = source[place]
            assert source.classes[label] == Path(ref.id).parent.name
            assert float(view.mean()) * 255 == pytest.approx(10 * int(Path(ref.id).stem) + 4, abs=2)


def test_worker_processes_give_the_same_batches(photos: str) -> None:
    recipe = small_recipe(in_memory="no", epochs=1, batch_size=4)
    for a, b in zip(batches_of(photos, recipe), batches_of(photos, recipe, workers=2), strict=True):
        assert same(a, b)


def test_small_images_are_kept_in_memory_and_large_ones_are_not(photos: str, tmp_path: Path) -> None:
    small = write_images(tmp_path / "data.parquet")
    assert open_feed(small, small_recipe()).images is not None
    assert open_feed(small, small_recipe(in_memory="no")).images is None
    assert open_feed(photos, small_recipe()).images is None
    assert open_feed(photos, small_recipe(images=4)).count == 4


@pytest.mark.parametrize("in_memory", ["yes", "no"])
def test_a_larger_share_of_bad_images_than_allowed_stops(tmp_path: Path, in_memory: str) -> None:
    source = write_images(tmp_path / "data.parquet", broken=(3, 7, 11))
    recipe = small_recipe(in_memory=in_memory, max_bad_share=0.05)
    with pytest.raises(DataError, match=r"3 of 48 images.*max_bad_share"):
        pretrain(recipe, source, tmp_path / "run", workers=0, show_progress=False)
    recipe = small_recipe(in_memory=in_memory, max_bad_share=0.1)
    assert batches_of(source, recipe)


def test_another_image_stands_in_for_a_bad_one_which_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_images(tmp_path / "data.parquet", broken=(3,))
    recipe = small_recipe(in_memory="no", max_bad_share=0.1, epochs=2)
    pretrain(recipe, source, tmp_path / "run", workers=0, show_progress=False)
    assert len((tmp_path / "run" / "unreadable.tsv").read_text().splitlines()) == 1
    assert "1 images could not be read" in capsys.readouterr().err
    batches = batches_of(source, small_recipe(in_memory="no", max_bad_share=0.1, epochs=1))
    assert all(len(batch.labels) == 8 for batch in batches)


class Counting(Stream):
    """A stream of single-coloured images, which counts what is read and what is decoded."""

    spec = "numbers"

    def __init__(self, count: int) -> None:
        self.count = count
        self.decoded: list[int] = []

    def iterate(self, start: int = 0, stop: int | None = None) -> Iterator[ImageRef]:
        for i in range(start, self.count):
            yield ImageRef(str(i), partial(self.picture, i), None, i)

    def picture(self, i: int) -> Image.Image:
        self.decoded.append(i)
        return Image.new("RGB", (40, 40), (i, i, i))

    def fingerprint(self) -> str:
        return "numbers"


def stream_batches(stream: Stream, recipe: Recipe, *, first: int = 0, rank: int = 0, count: int = 1) -> list[Batch]:
    plan = Plan(recipe, recipe.images or 0, Processes(rank=rank, count=count))
    batches: Batches = Incoming(crops_of_stream(stream, plan, first, 2), plan)
    return [batches(number, plan.draws(number)) for number in range(first, plan.batches)]


def test_streams_resume_and_are_shared_without_decoding_the_rest() -> None:
    recipe = small_recipe(images=24, epochs=2, shuffle_buffer=6)
    whole = stream_batches(Counting(24), recipe)
    labels = [batch.labels.tolist() for batch in whole]
    for epoch in (labels[:3], labels[3:]):
        assert sorted(label for batch in epoch for label in batch) == list(range(24))
    assert labels[:3] != labels[3:]
    resumed = Counting(24)
    assert all(same(a, b) for a, b in zip(whole[4:], stream_batches(resumed, recipe, first=4), strict=True))
    assert len(resumed.decoded) == 16
    halves = [stream_batches(Counting(24), recipe, rank=rank, count=2) for rank in (0, 1)]
    assert [a.labels.tolist() + b.labels.tolist() for a, b in zip(*halves, strict=True)] == labels


def test_a_short_stream_and_a_stream_without_a_number_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="numbers has only 20 images; set images"):
        stream_batches(Counting(20), small_recipe(images=24))
    monkeypatch.setattr("adios_zoo.train.data.feed.open_stream", lambda spec: Counting(20))
    with pytest.raises(ConfigError, match="is a stream: set images"):
        open_feed("numbers", small_recipe())


def test_a_buffer_shuffles_a_stream() -> None:
    refs = [ImageRef(str(i), lambda: Image.new("RGB", (1, 1)), None, i) for i in range(50)]
    order = [ref.label for ref in shuffled(iter(refs), 10, generator_for(0, "stream", 0))]
    assert sorted(order) == list(range(50))
    assert order != list(range(50))
    assert all(label <= place + 10 for place, label in enumerate(order))


def test_a_run_from_files_killed_between_checkpoints_ends_the_same(photos: str, tmp_path: Path) -> None:
    recipe = small_recipe(in_memory="no", epochs=2, batch_size=4, checkpoint_minutes=60)
    pretrain(recipe, photos, tmp_path / "whole", workers=0, show_progress=False)

    class Killed(BaseException):
        pass

    def kill(step: int) -> None:
        if step == 7:
            raise Killed

    _until(kill, recipe, photos, tmp_path / "killed", Killed)
    pretrain(recipe, photos, tmp_path / "killed", workers=0, resume=True, show_progress=False)
    for file in ("model", "masker"):
        whole, killed = (load_file(tmp_path / run / "model" / f"{file}.safetensors") for run in ("whole", "killed"))
        assert all(torch.equal(killed[name], value) for name, value in whole.items())


def _until(kill: object, recipe: Recipe, source: str, folder: Path, killed: type[BaseException]) -> None:
    from adios_zoo.train.run.trainer import Trainer

    step = Trainer.step
    with pytest.MonkeyPatch.context() as patch:

        def stopping(self: Trainer, number: int, batches: Batches) -> dict[str, torch.Tensor]:
            kill(number)  # type: ignore[operator]
            return step(self, number, batches)

        patch.setattr(Trainer, "step", stopping)
        with pytest.raises(killed):
            pretrain(recipe, source, folder, workers=0, show_progress=False)
