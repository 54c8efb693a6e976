"""The web page as a folder: what is in it, what is not, and mistakes.  What it does is in test_web_page.py."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
from adios_zoo.export import web_runtime
from adios_zoo.export.web import export_web
from PIL import Image

from adios_zoo import FeatureExtractor
from adios_zoo.cli import main
from adios_zoo.errors import BackendError, ConfigError, DataError, IntegrityError
from adios_zoo.images.image import read_image
from adios_zoo.models.card import card_of_folder
from tests.small_models import exported_model, saved_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_model(tmp_path_factory.mktemp("web") / "model")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands for an unpacked onnxruntime-web, where no browser runs it."""
    folder = tmp_path_factory.mktemp("npm") / "package"
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"name": "onnxruntime-web", "version": "9.9.9"}))
    for name in web_runtime.FILES:
        (folder / "dist" / name).write_bytes(name.encode())
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(1)
    for name, size in (("a_bird", (500, 70)), ("cat", (33, 40)), ("dog", (90, 91))):
        pixels = Image.fromarray(rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)).resize(size)
        exif = Image.Exif()
        exif[270] = "where I live"
        pixels.save(folder / f"{name}.png", exif=exif)
    return folder


@pytest.fixture(scope="module")
def page(model: Path, package: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_web(model, tmp_path_factory.mktemp("page") / "out", gallery=photos, runtime=package)


def test_the_folder(page: Path, model: Path) -> None:
    names = {path.relative_to(page).as_posix() for path in page.rglob("*") if path.is_file()}
    assert {"index.html", "style.css", "page.js", "worker.js"} < names
    assert {name for name in names if name.startswith(("model/", "runtime/"))} == {
        "model/model.json",
        "model/encoder.onnx",
        "model/masker.onnx",
        "runtime/ort.wasm.min.js",
        "runtime/ort-wasm-simd-threaded.js",
        "runtime/ort-wasm-simd-threaded.wasm",
    }
    for name in ("encoder", "masker"):
        assert (page / "model" / f"{name}.onnx").read_bytes() == (model / "onnx" / f"{name}.onnx").read_bytes()
    assert not list(page.parent.glob(".*"))


def test_what_the_page_is_told_is_the_cards(page: Path, model: Path) -> None:
    told, card = json.loads((page / "model" / "model.json").read_text()), card_of_folder(model)
    assert (told["name"], told["pixels"], told["slots"]) == (card.name, card.input_size, card.masker.slots)
    assert (tuple(told["mean"]), tuple(told["std"])) == (card.mean, card.std)
    assert told["resize"] == 40  # floor(32 / 0.8)
    assert told["runtime"] == "9.9.9"
    assert len(set(told["colours"])) == card.masker.slots
    assert told["networks"]["encoder"] == (page / "model" / "encoder.onnx").stat().st_size


def test_every_file_that_is_named_is_there(page: Path) -> None:
    for path in page.glob("*.*"):
        text = path.read_text()
        named = re.findall(r'(?:from|import|src=|href=|fetched\()\s*"([^"]+)"', text)
        assert all((page / name).is_file() for name in named), path.name


def test_nothing_is_named_that_lies_elsewhere(page: Path) -> None:
    for path in [*page.glob("*.*"), page / "model" / "model.json"]:
        text = path.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"\b(https?|wss?|ftp|data):|[\"'(`=]//|(src|href)=\"/", text), path.name
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', (page / "index.html").read_text())
    assert policy is not None
    directives = dict(part.strip().split(" ", 1) for part in policy[1].split(";"))
    assert directives["default-src"] == "'none'"
    sources = {source for value in directives.values() for source in value.split()}
    assert sources == {"'none'", "'self'", "blob:", "'wasm-unsafe-eval'"}


def test_the_gallery(page: Path, model: Path, photos: Path) -> None:
    told = json.loads((page / "model" / "model.json").read_text())["gallery"]
    assert [entry["name"] for entry in told] == ["a bird", "cat", "dog"]
    pictures = [read_image(path) for path in sorted(photos.iterdir())]  # decoded at full size, as the page does
    features = np.frombuffer((page / "gallery" / "features.bin").read_bytes(), "<f4").reshape(3, -1)
    assert np.array_equal(features, FeatureExtractor(model, backend="onnx").extract(pictures))
    with Image.open(page / told[0]["file"]) as small:
        assert small.size == (384, 54)
        assert not small.getexif()


def test_without_a_gallery_and_from_a_model_without_onnx_files(package: Path, tmp_path: Path) -> None:
    page = export_web(saved_model(tmp_path / "model"), tmp_path / "page", runtime=package / "dist")
    assert json.loads((page / "model" / "model.json").read_text())["gallery"] == []
    assert not (page / "gallery").exists()
    assert len(list((page / "model").glob("*.onnx"))) == 2


def test_the_command_line(model: Path, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page"
    out.mkdir()
    assert main(["export", str(model), "-o", str(out), "--layout", "web", "--runtime", str(package)]) == 0
    assert f"python -m http.server --directory {out}" in capsys.readouterr().out
    assert main(["export", str(model), "-o", str(out), "--layout", "web", "--runtime", str(package)]) == 2
    assert "in use" in capsys.readouterr().err
    assert main(["export", str(model), "-o", str(tmp_path / "m"), "--runtime", str(package)]) == 2
    assert "--layout web" in capsys.readouterr().err


def test_a_mistake_leaves_nothing(model: Path, package: Path, photos: Path, tmp_path: Path) -> None:
    bad = Path(shutil.copytree(photos, tmp_path / "photos"))
    (bad / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.jpg"):
        export_web(model, tmp_path / "page", gallery=bad, runtime=package)
    with pytest.raises(ConfigError, match="holds no onnxruntime-web"):
        export_web(model, tmp_path / "page", runtime=photos)
    (tmp_path / "many.txt").write_text("photos/cat.png\n" * 1001)
    with pytest.raises(ConfigError, match="at most 1000"):
        export_web(model, tmp_path / "page", gallery=tmp_path / "many.txt", runtime=package)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many.txt", "photos"]


def test_a_damaged_network_is_not_shown(model: Path, package: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(model, tmp_path / "model"))
    with (damaged / "onnx" / "masker.onnx").open("ab") as file:
        file.write(b"!")
    with pytest.raises(IntegrityError, match=r"masker\.onnx"):
        export_web(damaged, tmp_path / "page", runtime=package)


# The runtime


@pytest.fixture
def archive(package: Path, tmp_path: Path) -> Path:
    path = tmp_path / "given" / "onnxruntime-web-9.9.9.tgz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as tar:
        tar.add(package, "package")
    return path


@pytest.fixture
def npm(monkeypatch: pytest.MonkeyPatch, archive: Path, tmp_path: Path) -> list[list[str]]:
    """What npm is asked, in place of it: it "packs" the archive; nothing is in the cache."""
    asked: list[list[str]] = []

    def run(command: list[str], *, cwd: Path, **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        shutil.copy(archive, cwd)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setenv("ADIOS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(subprocess, "run", run)
    return asked


def test_the_runtime_of_an_archive(archive: Path, package: Path) -> None:
    found = web_runtime.web_runtime(archive)
    assert found == web_runtime.web_runtime(package) == web_runtime.web_runtime(package / "dist")
    assert found.version == "9.9.9"
    assert set(found.files) == set(web_runtime.FILES)


def test_the_runtime_is_fetched_once(npm: list[list[str]], archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_runtime, "SHA512", web_runtime._digest(archive))
    first = web_runtime.web_runtime()
    assert web_runtime.web_runtime() == first
    assert [command[1:3] for command in npm] == [["pack", f"onnxruntime-web@{web_runtime.VERSION}"]]


def test_another_package_than_the_published_one_is_refused(npm: list[list[str]], tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="is not the onnxruntime-web@"):
        web_runtime.web_runtime()
    assert not list((tmp_path / "home" / "downloads").iterdir())


def test_no_way_to_the_runtime(
    npm: list[list[str]], monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path
) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "npm error code ENOTFOUND\nnpm error network\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(BackendError, match=r"ENOTFOUND.*--runtime"):
        export_web(model, tmp_path / "page")
    monkeypatch.setenv("ADIOS_OFFLINE", "1")
    with pytest.raises(BackendError, match=r"ADIOS_OFFLINE.*--runtime"):
        export_web(model, tmp_path / "page")
    monkeypatch.delenv("ADIOS_OFFLINE")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BackendError, match=r"no npm to fetch it.*--runtime"):
        export_web(model, tmp_path / "page")
    assert not (tmp_path / "page").exists()
