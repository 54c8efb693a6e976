"""Masks of models and files against ground truth of every form."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from adios_zoo.train.evaluate.segmentation.best_slot import best_boxes
from adios_zoo.train.evaluate.segmentation.ground_truth import Truth
from adios_zoo.train.evaluate.segmentation.segment import evaluate_segment
from adios_zoo.train.evaluate.segmentation.slots import grid
from numpy.typing import NDArray
from PIL import Image

from adios_zoo.errors import AdiosError, ConfigError, DataError
from adios_zoo.sources.open import open_source
from tests.conftest import DATA
from tests.small_models import saved_model

PHOTOS = DATA / "photos"
W, H = 24, 16


def label_map(number: int) -> NDArray[np.uint8]:
    """Two objects and a border that is void around the first."""
    labels = np.zeros((H, W), np.uint8)
    labels[2:8, 2 + number : 9 + number] = 255
    labels[3:7, 3 + number : 8 + number] = 5
    labels[9:15, 14:22] = 9
    return labels


def masks_of(labels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The perfect masks; what is void goes to a slot that has no right to it."""
    hard = [(labels == value) | ((labels == 255) & (value == 9)) for value in (0, 5, 9)]
    return np.stack(hard).astype(np.float32)


def png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three images, of which the last has no ground truth, with label maps and perfect masks."""
    rng = np.random.default_rng(0)
    for folder in ("images/a", "maps/a", "npy/a"):
        (tmp_path / folder).mkdir(parents=True)
    for number in range(3):
        pixels = rng.integers(0, 256, (H, W, 3), dtype=np.uint8)
        (tmp_path / f"images/a/{number}.png").write_bytes(png(pixels))
        if number < 2:
            (tmp_path / f"maps/a/{number}.png").write_bytes(png(label_map(number)))
            np.save(tmp_path / f"npy/a/{number}.npy", masks_of(label_map(number)))
    return tmp_path


def judged(data: Path, **settings: object) -> dict[str, object]:
    given = {"masks": data / "maps", "predicted": data / "npy", "progress": False}
    return evaluate_segment("", str(data / "images"), **{**given, **settings})


def test_perfect_masks_have_full_marks(data: Path) -> None:
    found = judged(data)
    record = found["test"]
    assert (record["images"], record["without_ground_truth"], record["objects"]) == (2, 1, 4)
    assert all(score == pytest.approx(100) for score in found["figures"]["given masks"].values())
    for floor in ("one slot", "centred box", "grid"):
        assert 0 < found["figures"][floor]["mean_sc"] < 90
    assert found["figures"]["one slot"]["ari"] == 0


def test_void_is_judged_when_it_is_asked_for(data: Path) -> None:
    assert judged(data, void=None)["figures"]["given masks"]["ari"] < 100
    assert judged(data, void=9)["test"]["objects"] == 4  # the object 5 and the border of each image


def test_a_map_of_0_and_255_alone_has_an_object(data: Path) -> None:
    for number in range(2):
        whole = (label_map(number) > 0).astype(np.uint8) * 255
        (data / f"maps/a/{number}.png").write_bytes(png(whole))
        np.save(data / f"npy/a/{number}.npy", np.stack([whole == 0, whole > 0]).astype(np.float32))
    found = judged(data)
    assert found["test"]["objects"] == 2
    assert found["figures"]["given masks"]["best_mask_iou"] == pytest.approx(100)


def test_smaller_masks_are_resized_to_the_ground_truth(data: Path) -> None:
    for number in range(2):
        path = data / f"npy/a/{number}.npy"
        np.save(path, np.load(path)[:, ::2, ::2])
    assert judged(data)["figures"]["given masks"]["best_mask_iou"] > 60


def test_masks_of_the_source_itself(data: Path) -> None:
    names = [f"a/{number}.png" for number in range(2)]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {
        column: pa.array([{"bytes": (data / folder / name).read_bytes(), "path": name} for name in names], struct)
        for column, folder in (("image", "images"), ("mask", "maps"))
    }
    pq.write_table(pa.table(columns), data / "set.parquet")
    model = str(saved_model(data / "m"))
    own = evaluate_segment(model, f"parquet:{data}/set.parquet", progress=False)
    beside = evaluate_segment(model, str(data / "images"), masks=data / "maps", progress=False)
    assert own["figures"] == beside["figures"]
    assert own["test"]["ground_truth_fingerprint"] == beside["test"]["ground_truth_fingerprint"]
    assert set(own["figures"]) == {"model", "random masker", "one slot", "centred box", "grid"}


def coco(data: Path, **image: object) -> Path:
    boxes = {0: [[3, 3, 5, 4], [14, 9, 8, 6]], 1: [[4, 3, 5, 4]]}
    crowd = {"image_id": 0, "bbox": [0, 0, 24, 16], "iscrowd": 1}
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": W, "height": H, **image} for n in range(3)],
        "annotations": [{"image_id": n, "bbox": box} for n in boxes for box in boxes[n]] + [crowd],
    }
    (data / "boxes.json").write_text(json.dumps(content))
    return data / "boxes.json"


def test_boxes_of_cocos_form(data: Path) -> None:
    for number in range(2):
        labels = label_map(number)
        labels[labels == 255] = 0
        np.save(data / f"npy/a/{number}.npy", masks_of(labels))
    found = judged(data, masks=None, boxes=coco(data))
    assert (found["test"]["images"], found["test"]["objects"]) == (2, 3)
    assert found["figures"]["given masks"] == {name: pytest.approx(100) for name in BOXES}


BOXES = ("best_box_iou", "found_by_box", "corloc_box")


@pytest.mark.parametrize("form", ["record of lists", "list of records"])
def test_boxes_of_the_source_itself(data: Path, form: str) -> None:
    boxes = [[[3, 3, 5, 4], [14, 9, 8, 6]], [[4, 3, 5, 4]], []]
    objects = [{"bbox": some} if form == "record of lists" else [{"bbox": box} for box in some] for some in boxes]
    names = [f"a/{number}.png" for number in range(3)]
    images = [{"bytes": (data / "images" / name).read_bytes(), "path": name} for name in names]
    pq.write_table(pa.table({"image": images, "objects": objects}), data / "set.parquet")
    model = str(saved_model(data / "m"))
    own = evaluate_segment(model, f"parquet:{data}/set.parquet", progress=False)
    beside = evaluate_segment(model, str(data / "images"), boxes=coco(data), progress=False)
    assert own["figures"] == beside["figures"]
    assert (own["test"]["objects"], own["test"]["without_ground_truth"]) == (3, 1)


def test_objects_without_boxes_are_named(data: Path) -> None:
    image = {"bytes": (data / "images/a/0.png").read_bytes(), "path": ""}
    pq.write_table(pa.table({"image": [image], "objects": [{"bbox": [[1.0, 2.0]]}]}), data / "set.parquet")
    with pytest.raises(DataError, match=r"1 of 1 images .*bbox"):
        evaluate_segment(str(saved_model(data / "m")), f"parquet:{data}/set.parquet", progress=False)


def test_the_largest_part_of_a_slot_makes_its_box() -> None:
    slots = np.zeros((10, 10), np.uint8)
    slots[2:6, 3:8] = 1
    slots[9, 9] = 1
    assert best_boxes(np.array([[3.0, 2.0, 8.0, 6.0]]), slots, 3).tolist() == [1.0]
    assert best_boxes(np.array([[3.0, 2.0, 8.0, 4.0]]), slots, 3).tolist() == [0.5]


def test_a_grid_has_as_many_cells_as_slots() -> None:
    truth = Truth("x", Image.new("RGB", (31, 17)), None, None, np.zeros((0, 4)))
    numbers, total = grid(6)(truth)
    assert total == 6
    assert numbers.shape == (17, 31)
    assert np.unique(numbers).tolist() == list(range(6))


def test_the_paper_protocol_judges_what_the_model_is_given(data: Path) -> None:
    model = str(saved_model(data / "m", crop_pct=0.5))
    settings = {"masks": data / "maps", "progress": False}
    found = {
        protocol: evaluate_segment(model, str(data / "images"), protocol=protocol, **settings)
        for protocol in ("standard", "paper")
    }
    assert found["standard"]["crop_pct"] is None
    assert found["paper"]["crop_pct"] == 0.5
    # The centre 8 x 8 of 24 x 16 pixels holds only a part of each object.
    paper, standard = (found[protocol]["test"] for protocol in ("paper", "standard"))
    assert paper["fingerprint"] == standard["fingerprint"] == open_source(data / "images").fingerprint()
    assert paper["ground_truth_fingerprint"] != standard["ground_truth_fingerprint"]
    assert found["paper"]["figures"]["one slot"]["mean_sc"] != found["standard"]["figures"]["one slot"]["mean_sc"]


def test_the_oddities_of_the_paper_protocol(tmp_path: Path) -> None:
    """Two images and the grid's five slots, of which four have a column of pixels each and the last has none."""
    maps = np.array([[1, 2, 0, 0], [1, 1, 0, 0]], np.uint8)[:, None].repeat(4, axis=1)
    for folder in ("images", "maps"):
        (tmp_path / folder).mkdir()
    for number, labels in enumerate(maps):
        (tmp_path / f"maps/{number}.png").write_bytes(png(labels))
        (tmp_path / f"images/{number}.png").write_bytes(png(np.stack(3 * [labels], axis=2)))
    model = str(saved_model(tmp_path / "m", crop_pct=1.0))
    found = {
        protocol: evaluate_segment(
            model, str(tmp_path / "images"), masks=tmp_path / "maps", protocol=protocol, grid_cells=5, progress=False
        )["figures"]["grid"]
        for protocol in ("standard", "paper")
    }
    # A label is found whole by one slot (1), or its first half is (1/2), and the rest at the label's share (1/2 of it).
    first = [3 / 4, 1.0, 1.0]  # labels 0, 1 and 2
    second = [3 / 4, 3 / 4]  # it lacks label 2, for which the empty slot is a full mark
    standard = (np.mean(first) + np.mean(second)) / 2, (np.mean(first[1:]) + np.mean(second[1:])) / 2
    paper = (np.mean(first) + (sum(second) + 1) / 2) / 2, (np.mean(first[1:]) + sum(second[1:]) + 1) / 2
    for protocol, expected in (("standard", standard), ("paper", paper)):
        names = ("mean_ap", "mean_ap_foreground")
        assert [found[protocol][name] for name in names] == [pytest.approx(100 * value) for value in expected]
        assert found[protocol]["mean_sc"] == pytest.approx(100 * (2.5 / 3 + 0.5) / 2)
    # Of the second image's one object two slots have a half each.
    assert found["standard"]["ari_foreground"] == 100
    assert found["paper"]["ari_foreground"] == 50


def test_a_cut_keeps_the_boxes_within() -> None:
    boxes = np.array([[0.0, 0.0, 4.0, 4.0], [3.0, 2.0, 9.0, 9.0]])
    part = Truth("x", Image.new("RGB", (10, 10)), None, None, boxes).within((4, 4, 8, 10))
    assert part.image.size == (4, 6)
    assert part.boxes.tolist() == [[0, 0, 4, 5]]


def test_the_boxes_of_a_cut_map_are_of_its_pixels() -> None:
    labels = np.zeros((10, 10), np.uint8)
    labels[1, 1:9] = labels[1:9, 1] = 3  # an angle: its whole box covers the cut, of whose pixels it has none
    labels[2:5, 5] = labels[4, 5:9] = 4  # another: within the cut it is a line
    whole = Truth.of_map("x", Image.new("RGB", (10, 10)), labels, np.ones((10, 10), bool))
    assert whole.boxes.tolist() == [[1, 1, 9, 9], [5, 2, 9, 5]]
    part = whole.within((4, 4, 8, 10))
    assert part.labels is not None
    assert part.judged is not None
    assert part.labels.shape == part.judged.shape == (6, 4)
    assert part.boxes.tolist() == [[1, 0, 4, 1]]


def test_one_image_in_a_hundred_may_be_unreadable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = {name: tmp_path / name for name in ("images", "maps", "npy")}
    for folder in folders.values():
        folder.mkdir()
    for number in range(101):
        (folders["images"] / f"{number:03}.png").write_bytes(png(np.zeros((H, W, 3), np.uint8)))
        (folders["maps"] / f"{number:03}.png").write_bytes(png(label_map(0)))
        np.save(folders["npy"] / f"{number:03}.npy", masks_of(label_map(0)))
    (folders["images"] / "007.png").write_bytes(b"no image")
    record = judged(tmp_path)["test"]
    assert (record["images"], record["unreadable"], record["without_ground_truth"]) == (100, 1, 0)
    assert record["fingerprint"] == open_source(folders["images"]).fingerprint()
    assert "007.png: not an image" in capsys.readouterr().err
    (folders["maps"] / "008.png").write_bytes(png(np.zeros((H, 3), np.uint8)))
    with pytest.raises(DataError, match=r"2 of 101 images .* too many .*007\.png"):
        judged(tmp_path)


def wrong(data: Path, what: str) -> dict[str, object]:
    model = str(saved_model(data / "m", masker=None))
    (data / "none").mkdir()
    (data / "bad.json").write_text("[]")
    (data / "npy/a/1.npy").write_bytes(b"no array")
    return {
        "no masker": {"source": model, "predicted": None},
        "no ground truth": {"masks": None},
        "both": {"boxes": coco(data)},
        "no folder": {"masks": data / "nowhere"},
        "no maps": {"masks": data / "none"},
        "not coco": {"masks": None, "boxes": data / "bad.json"},
        "other size": {"masks": None, "boxes": coco(data, width=99)},
        "no array": {},
        "void": {"void": 256},
        "protocol": {"protocol": "mine"},
        "crop": {"crop_pct": 0.5},
        "grid": {"grid_cells": 0},
        "images": {"test_images": 0},
    }[what]


@pytest.mark.parametrize(
    ("what", "kind", "says"),
    [
        ("no masker", ConfigError, "has no masker"),
        ("no ground truth", DataError, "--masks"),
        ("both", ConfigError, "either"),
        ("no folder", DataError, "nowhere"),
        ("no maps", DataError, "PNG"),
        ("not coco", DataError, "COCO"),
        ("other size", DataError, "3 of 3 images .*says 99 x 16"),
        ("no array", DataError, "1.npy"),
        ("void", ConfigError, "256"),
        ("protocol", ConfigError, "mine"),
        ("crop", ConfigError, "whole image"),
        ("grid", ConfigError, "1 to 256 cells"),
        ("images", ConfigError, "from 1 up"),
    ],
)
def test_mistakes_are_named(data: Path, what: str, kind: type[AdiosError], says: str) -> None:
    settings = {"source": "", "masks": data / "maps", "predicted": data / "npy"} | wrong(data, what)
    with pytest.raises(kind, match=says):
        evaluate_segment(settings.pop("source"), str(data / "images"), progress=False, **settings)


def test_one_map_for_two_images(data: Path) -> None:
    (data / "images/b").mkdir()
    (data / "images/b/0.png").write_bytes((data / "images/a/0.png").read_bytes())
    (data / "maps/a/0.png").rename(data / "maps/0.png")
    with pytest.raises(DataError, match="label map of"):
        judged(data)


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="ADIOS_DATA names no folder with photos/")
def test_pasted_photographs(tmp_path: Path) -> None:
    """Discs of one photograph pasted on another: the bundled masker runs, and perfect masks beat everything."""
    paths = sorted(PHOTOS.glob("*.jpg"))[:6]
    for folder in ("images", "maps", "npy"):
        (tmp_path / folder).mkdir()
    rows, columns = np.mgrid[:96, :128]
    for number, path in enumerate(paths):
        back, front = (Image.open(p).convert("RGB").resize((128, 96)) for p in (path, paths[number - 1]))
        disc = (rows - 40 - 4 * number) ** 2 + (columns - 50 - 6 * number) ** 2 < (18 + number) ** 2
        back.paste(front, mask=Image.fromarray(disc))
        back.save(tmp_path / f"images/{number}.png")
        Image.fromarray(disc.astype(np.uint8)).save(tmp_path / f"maps/{number}.png")
        np.save(tmp_path / f"npy/{number}.npy", np.stack([~disc, disc]).astype(np.float32))
    settings = {"masks": tmp_path / "maps", "progress": False}
    found = evaluate_segment("resnet18_tin200", str(tmp_path / "images"), **settings)
    again = evaluate_segment("resnet18_tin200", str(tmp_path / "images"), **settings)
    perfect = evaluate_segment("", str(tmp_path / "images"), predicted=tmp_path / "npy", **settings)
    assert found == again
    assert found["test"]["objects"] == 6
    best = perfect["figures"]["given masks"]
    assert best["ari"] == pytest.approx(100)
    for figures in found["figures"].values():
        assert all(0 <= value <= best[name] for name, value in figures.items() if name != "ari_foreground")
