"""Nearest neighbours: exact, over groups, from the model that made the file, on the command line and as a picture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from adios_zoo.cli import main
from adios_zoo.errors import ConfigError, DataError
from adios_zoo.features.extract_to_file import extract_to_file
from adios_zoo.features.extractor import FeatureExtractor
from adios_zoo.features.read_file import read_features
from adios_zoo.models.model import AdiosModel
from adios_zoo.search.neighbours import find_neighbours, nearest
from tests.features.test_read_file import write
from tests.small_models import saved_model, small_card, small_model


def picture(seed: int) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((48, 40), Image.Resampling.BICUBIC)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with images of six seeds, their features, and the model that made them."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for seed in range(6):
        picture(seed).save(f"photos/{seed}.png")
    saved_model(Path("model"))
    extract_to_file("photos", Path("f.parquet"), extractor=FeatureExtractor("model"), progress=False)
    return tmp_path


def test_nearest_equals_the_whole_matrix() -> None:
    random = np.random.default_rng(0)
    rows, queries = (random.standard_normal((n, 8)).astype(np.float32) for n in (50, 7))
    rows[9] = rows[33]
    queries[0] = rows[9]
    unit, asked = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (rows, queries))
    expected = np.argsort(-(asked @ unit.T), axis=1, kind="stable")
    for size in (1, 3, 16, 50):
        found = nearest([rows[i : i + size] for i in range(0, 50, size)], queries, 4)
        assert [[row for row, _ in answer] for answer in found] == expected[:, :4].tolist()
        np.testing.assert_allclose([c for _, c in found[1]], (asked @ unit.T)[1, expected[1, :4]], atol=1e-6)
    assert [row for row, _ in nearest([rows], queries[:1], 2, own=[9])[0]] == [33, expected[0, 2]]
    assert len(nearest([rows], queries, 99)[0]) == 50
    assert nearest([np.zeros((1, 8), np.float32)], queries[:1], 1) == [[(0, 0.0)]]


def test_a_row_is_no_neighbour_of_its_own_and_an_image_finds_its_kin(library: Path) -> None:
    ImageOps.mirror(picture(3)).save("mirrored.png")
    answers, failures = find_neighbours(["photos/2.png", "mirrored.png"], "f.parquet", k=5)
    assert failures == []
    assert [answer.query for answer in answers] == ["photos/2.png", "mirrored.png"]
    assert {id for id, _ in answers[0].neighbours} == {f"photos/{i}.png" for i in (0, 1, 3, 4, 5)}
    cosines = [cosine for _, cosine in answers[0].neighbours]
    assert cosines == sorted(cosines, reverse=True)
    shutil.copy("photos/4.png", "copy.png")
    ((id, cosine),) = find_neighbours(["copy.png"], "f.parquet", k=1)[0][0].neighbours
    assert id == "photos/4.png"
    assert cosine == pytest.approx(1, abs=1e-5)


def test_ids_alone_need_no_model(library: Path) -> None:
    shutil.rmtree("model")
    answers, _ = find_neighbours(["photos/0.png"], "f.parquet")
    assert len(answers[0].neighbours) == 5
    Path("photos/0.png").rename("new.png")
    with pytest.raises(ConfigError, match=r"f\.parquet was made by model, which is not here .*--model"):
        find_neighbours(["new.png"], "f.parquet")


def test_another_model_is_refused(library: Path) -> None:
    small_model(name="test_resnet_shapes_byol", method="byol").save_pretrained(Path("other"))
    for query in ("photos/0.png", "photos"):
        with pytest.raises(
            ConfigError, match="holds features of test_resnet_shapes_simclr, not of test_resnet_shapes_byol"
        ):
            find_neighbours([query], "f.parquet", model="other")
    shutil.copy("photos/0.png", "new.png")
    shutil.copytree("model", "kept")
    torch.manual_seed(1)
    AdiosModel(small_card()).save_pretrained(Path("model"))  # as if trained anew
    with pytest.raises(ConfigError, match=r"another feature of photos/0\.png than model gives it"):
        find_neighbours(["new.png"], "f.parquet")
    assert find_neighbours(["new.png"], "f.parquet", model="kept")[0]
    write(Path("g.npy"))  # three numbers each, and no word of the model
    with pytest.raises(ConfigError, match=r"g\.npy does not say which model made it; name that with --model"):
        find_neighbours(["new.png"], "g.npy")
    with pytest.raises(ConfigError, match="holds 3 features"):
        find_neighbours(["new.png"], "g.npy", model="model")


def test_the_shards_of_an_extraction_are_one_library(library: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(2):
        assert main(["extract", "photos", "--model", "model", "--shard", f"{i}/2", "-o", f"shards/{i}.parquet"]) == 0
    (whole,), (shards,) = (find_neighbours(["photos/1.png"], path)[0] for path in ("f.parquet", "shards"))
    assert [id for id, _ in shards.neighbours] == [id for id, _ in whole.neighbours]


def test_rows_without_a_feature_are_passed_over(library: Path) -> None:
    ids, features = read_features(Path("f.parquet"))
    features[[1, 4]] = np.nan  # as other tools may write what they could not read
    write(Path("h.parquet"), ids, features)
    answers, failures = find_neighbours([ids[0], ids[1]], "h.parquet")
    assert [failure.id for failure in failures] == [ids[1]]
    assert sorted(id for id, _ in answers[0].neighbours) == [ids[2], ids[3], ids[5]]


def test_mistakes(library: Path) -> None:
    with pytest.raises(DataError, match=r"cat is no id in f\.parquet, and no image: cat: no such file"):
        find_neighbours(["cat"], "f.parquet")
    with pytest.raises(ConfigError, match="k is 0"):
        find_neighbours(["photos/0.png"], "f.parquet", k=0)


def test_the_command(library: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["neighbours", "photos/1.png", "--in", "f.parquet", "-k", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "photos/1.png"
    assert [line.split()[0] for line in lines[1:]] == ["1", "2"]
    Path("broken.png").write_text("no picture")
    assert main(["neighbours", "broken.png", "photos", "--in", "f.parquet", "-k", "2", "--json"]) == 1
    printed = capsys.readouterr()
    assert "adios: broken.png: " in printed.err
    answers = json.loads(printed.out)
    assert [answer["query"] for answer in answers] == [f"photos/{i}.png" for i in range(6)]
    assert lines[1].split()[1:] == [f"{answers[1]['neighbours'][0]['cosine']:.3f}", answers[1]["neighbours"][0]["path"]]


def test_the_sheet_shows_query_and_neighbours(library: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["neighbours", "photos/1.png", "photos/2.png", "--in", "f.parquet", "-k", "3", "--sheet", "s.png"]
    assert main(command) == 0
    sheet = Image.open("s.png")
    assert sheet.width > 4 * 160
    shown = np.asarray(sheet)
    expected = np.asarray(ImageOps.pad(picture(1), (160, 160), Image.Resampling.LANCZOS, color="#FAF9F7"))
    top, left = 40 + 68 + 26, 40
    np.testing.assert_array_equal(shown[top : top + 159, left : left + 159], expected[:159, :159])
    Path("photos").rename("moved")
    assert main(command) == 0  # says so in place of the pictures
    assert not np.array_equal(np.asarray(Image.open("s.png")), shown)
    capsys.readouterr()
