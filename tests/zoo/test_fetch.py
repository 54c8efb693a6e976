"""From a name to a folder: mirrors, the cache, no network, many processes, and the Hub's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
import types
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import adios_zoo
from adios_zoo.errors import AdiosError, ConfigError, DataError, DownloadError, IntegrityError, UnknownModelError
from adios_zoo.models.card import Card, card_of_folder, facts_of
from adios_zoo.models.model import write_card
from adios_zoo.zoo import fetch
from adios_zoo.zoo.cache import downloads_folder, models_folder
from adios_zoo.zoo.fetch import card_of, locate
from tests.conftest import ROOT
from tests.releases import release
from tests.server import Files, Hub, running
from tests.small_models import saved_model, small_card

NAME = "resnet18_in100s_simclr"
TAIL = "imagenet100s/simclr_adios_imagenet100s.zip"
ARCHIVE = "simclr_adios_imagenet100s.zip"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ADIOS_OFFLINE", "HF_HUB_OFFLINE", "ADIOS_ZOO_MIRROR", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ADIOS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ADIOS_TIMEOUT", "2")
    return tmp_path / "home"


@pytest.fixture
def small_zip(tmp_path: Path) -> Path:
    """A zip archive that :func:`converting` takes for a release."""
    path = tmp_path / "shelf" / ARCHIVE
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("weights", b"\0" * 5000)
    return path


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replaces the converter by one that writes a small model; the list grows by each archive that it is given."""
    seen: list[Path] = []

    def convert(archive: Path, out: Path, *, card: Card) -> Card:
        assert zipfile.is_zipfile(archive)
        seen.append(archive)
        saved_model(out, name=card.name)
        return card

    module: Any = types.ModuleType("adios_zoo.official.convert")
    module.convert = convert
    monkeypatch.setitem(sys.modules, "adios_zoo.official.convert", module)
    return seen


@contextmanager
def mirror(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    files = Files(**{f"/zoo/{TAIL}": path.read_bytes()})
    with running(files) as address:
        monkeypatch.setenv("ADIOS_ZOO_MIRROR", f"{address}/zoo/")
        yield files


def test_fetched_once_then_from_the_cache(
    small_zip: Path, converted: list[Path], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mirror(small_zip, monkeypatch) as files:
        card, folder = locate(NAME)
        assert folder == home / "models" / NAME
        assert card.name == NAME
        assert set(card.files) >= {"model.safetensors", "masker.safetensors"}
        for _ in range(2):
            assert locate(NAME) == (card, folder)
        assert len(files.requests) == 1
    assert converted == [home / "downloads" / ARCHIVE]
    assert not list(downloads_folder().iterdir())
    assert [p.name for p in models_folder().iterdir()] == [NAME]
    monkeypatch.setenv("ADIOS_OFFLINE", "1")
    assert adios_zoo.load_model(NAME)(torch.zeros(1, 3, 32, 32)).shape[0] == 1


@pytest.mark.parametrize("file", ["model.safetensors", "masker.safetensors", "config.json"])
@pytest.mark.parametrize("change", ["damaged", "missing"])
def test_a_spoilt_cache_is_fetched_anew(
    small_zip: Path, converted: list[Path], file: str, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADIOS_ZOO_MIRROR", str(small_zip.parent))
    _, folder = locate(NAME)
    path = folder / file
    if change == "missing":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 255
        path.write_bytes(content)
    adios_zoo.load_model(NAME)
    assert len(converted) == 2


@pytest.mark.parametrize("form", ["path", "tail", "file://"])
def test_a_folder_as_mirror(
    small_zip: Path, converted: list[Path], form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small_zip.parent
    path = small_zip
    if form == "tail":
        path = folder / TAIL
        path.parent.mkdir()
        small_zip.rename(path)
    monkeypatch.setenv("ADIOS_ZOO_MIRROR", folder.as_uri() if form == "file://" else str(folder))
    monkeypatch.setenv("ADIOS_OFFLINE", "1")  # a folder is no network
    locate(NAME)
    assert converted == [path]
    assert path.is_file()  # the user's own file stays


def test_mirrors_that_are_none(small_zip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADIOS_ZOO_MIRROR", str(tmp_path / "nowhere"))
    with pytest.raises(DownloadError, match="nowhere, has no imagenet100s/simclr"):
        locate(NAME)
    monkeypatch.setenv("ADIOS_ZOO_MIRROR", "s3://bucket/zoo")
    with pytest.raises(ConfigError, match="folder, or an http or https address"):
        locate(NAME)


@pytest.mark.parametrize("variable", ["ADIOS_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_says_what_to_do(variable: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "yes")
    with pytest.raises(DownloadError) as caught:
        adios_zoo.load_model("resnet18_in100s_simclr")
    text = str(caught.value)
    source = adios_zoo.card(NAME).source
    assert source is not None
    for words in (variable, source, ARCHIVE, "ADIOS_ZOO_MIRROR", f"adios convert {ARCHIVE} -o {home}/models/{NAME}"):
        assert words in text
    assert "\n" not in text
    assert not home.exists() or not list(models_folder().glob("*"))


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://nowhere.invalid"])
def test_no_network_says_what_to_do_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADIOS_ZOO_MIRROR", address)
    start = time.monotonic()
    with pytest.raises(DownloadError, match=r"cannot be reached .*adios convert"):
        locate(NAME)
    assert time.monotonic() - start < 2


def test_a_refusal_says_what_to_do(small_zip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mirror(small_zip, monkeypatch) as files:
        files.always = "403"
        with pytest.raises(DownloadError, match=r"answers 403 \(Forbidden\): get .* ADIOS_ZOO_MIRROR"):
            locate(NAME)


def test_known_facts_of_the_archive_are_checked(
    small_zip: Path, converted: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = facts_of(small_zip)
    wrong = type(right)(right.bytes, "0" * 64)
    card = small_card(name="x", origin="release", source=f"https://example.org/{TAIL}", archive=wrong)
    with mirror(small_zip, monkeypatch), pytest.raises(DownloadError, match="SHA-256"):
        fetch._fetched(card)
    monkeypatch.setenv("ADIOS_ZOO_MIRROR", str(small_zip.parent))
    with pytest.raises(IntegrityError, match="SHA-256"):
        fetch._fetched(card)
    assert not converted
    assert fetch._fetched(card.replace(archive=right))[1] == models_folder() / "x"


def test_a_left_archive_is_compared_with_its_card(
    small_zip: Path, converted: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = facts_of(small_zip)
    card = small_card(name="x", origin="release", source=f"https://example.org/{TAIL}", archive=right)
    left = downloads_folder() / ARCHIVE
    left.parent.mkdir(parents=True)
    with mirror(small_zip, monkeypatch) as files:
        shutil.copy(small_zip, left)
        fetch._fetched(card)
        assert not files.requests
        shutil.rmtree(models_folder())
        with zipfile.ZipFile(left, "w") as file:
            file.writestr("weights", b"of another release")
        fetch._fetched(card)
        assert len(files.requests) == 1
    assert not left.exists()


def test_folders_in_all_spellings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved_model(tmp_path / "m")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for source in ("~/m", "local-dir:~/m"):
        assert locate(source)[1] == tmp_path / "m"
    with monkeypatch.context() as patch:
        patch.setattr(os, "sep", "\\")  # Windows takes both
        with pytest.raises(UnknownModelError, match="no model folder a/b"):
            locate("a/b")
    with pytest.raises(UnknownModelError, match="no model folder ~nobody-of-that-name/m"):
        locate("~nobody-of-that-name/m")


def test_an_archive_that_does_not_convert_is_not_kept(
    small_zip: Path, converted: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(archive: Path, out: Path, *, card: Card) -> Card:
        out.mkdir()
        raise IntegrityError("no release")

    monkeypatch.setattr(sys.modules["adios_zoo.official.convert"], "convert", refuse)
    with mirror(small_zip, monkeypatch), pytest.raises(IntegrityError, match="no release"):
        locate(NAME)
    assert not list(downloads_folder().iterdir())
    assert not list(models_folder().iterdir())


def test_threads_make_one_download(
    small_zip: Path, converted: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with mirror(small_zip, monkeypatch) as files:
        threads = [threading.Thread(target=locate, args=(NAME,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(files.requests) == len(converted) == 1
    assert "another process is fetching" in capsys.readouterr().err


def as_nobody(call: Callable[[], object]) -> None:
    """Call without root's right to write everywhere."""
    if os.geteuid() != 0:
        call()
        return
    os.seteuid(65534)
    try:
        call()
    finally:
        os.seteuid(0)


def test_a_cache_that_cannot_be_written(
    small_zip: Path, converted: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import tempfile

    home = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    try:
        monkeypatch.setenv("ADIOS_HOME", str(home))
        monkeypatch.setenv("ADIOS_ZOO_MIRROR", str(small_zip.parent))
        locate(NAME)
        for path in [home, *home.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)

        def use() -> None:
            adios_zoo.load_model(NAME)
            with pytest.raises(DataError, match=r"locks.* cannot be written \(Permission denied\).* ADIOS_HOME"):
                locate("resnet18_in100_byol")

        as_nobody(use)
    finally:
        for path in [home, *home.rglob("*")]:
            path.chmod(0o755)
        shutil.rmtree(home)


SCRIPT = """
import torch
m = torch.hub.load(CLONE, "resnet18_in100s_simclr", source="local")
with torch.inference_mode():
    x = torch.linspace(-2, 2, 3 * 96 * 96).reshape(1, 3, 96, 96)
    print(m.card.name, m(x).abs().sum().item(), tuple(m.masks(x).shape))
"""


def test_eight_processes_on_torch_hub_make_one_download(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = release(tmp_path, "simclr_adios_imagenet100s", only=("encoder.", "mask_"))
    with mirror(path, monkeypatch) as files:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
        before = os.umask(0o022)
        started = [
            subprocess.Popen(
                [sys.executable, "-c", f"CLONE = {str(ROOT)!r}\n{SCRIPT}"],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(8)
        ]
        answers = [process.communicate(timeout=300) for process in started]
        os.umask(before)
        assert [process.returncode for process in started] == [0] * 8, answers
        assert len(files.requests) == 1
    assert len({out for out, _ in answers}) == 1
    assert answers[0][0].startswith("resnet18_in100s_simclr ")
    assert "(1, 4, 96, 96)" in answers[0][0]
    folder = home / "models" / NAME
    assert {oct(p.stat().st_mode & 0o777) for p in folder.iterdir()} == {"0o644"}
    assert oct(folder.stat().st_mode & 0o777) == "0o755"
    assert not list((home / "downloads").iterdir())
    assert sum(".safetensors" in p.name for p in home.rglob("*")) == 3


# The Hub


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hub, and no endpoint."""
    import huggingface_hub.constants as constants

    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("ADIOS_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    point_to(monkeypatch, "http://127.0.0.1:9")
    return folder


def point_to(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")


def put(cache: Path, folder: Path, *, sha: str = "a" * 40, **refs: str) -> Path:
    """Write a folder into a cache of the Hub by hand."""
    repo = cache / "models--org--model"
    (repo / "refs").mkdir(parents=True, exist_ok=True)
    for name, target in (refs or {"main": sha}).items():
        (repo / "refs" / name).write_text(target)
    shutil.copytree(folder, repo / "snapshots" / sha)
    return repo / "snapshots" / sha


@pytest.mark.parametrize("revision", ["", "@main", "@v1", "@" + "a" * 40])
@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", None])
def test_a_hand_made_cache_serves(
    hub_cache: Path, tmp_path: Path, revision: str, variable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put(hub_cache, saved_model(tmp_path / "m"), main="a" * 40, v1="a" * 40)
    if variable:
        monkeypatch.setenv(variable, "1")
    start = time.monotonic()
    assert locate(f"hf-hub:org/model{revision}")[1] == folder
    assert time.monotonic() - start < 2


def test_a_cached_model_without_a_masker_is_whole(
    hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put(hub_cache, saved_model(tmp_path / "m", masker=None))
    monkeypatch.setenv("ADIOS_OFFLINE", "1")
    assert locate("hf-hub:org/model")[1] == folder


def test_a_commit_in_the_cache_is_not_asked_for(
    hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(hub_cache, saved_model(tmp_path / "m"))
    hub = Hub("org/model", {})
    with running(hub) as address:
        point_to(monkeypatch, address)
        adios_zoo.load_model("hf-hub:org/model@" + "a" * 40)
    assert not hub.calls


def test_from_a_server(hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved_model(tmp_path / "m")
    files = {p.name: p.read_bytes() for p in folder.iterdir()}
    hub = Hub("org/model", files | {"notes.txt": b"not asked for"})
    hub.commits.append({"config.json": b"{}"})
    hub.branches["empty"] = 1
    with running(hub) as address:
        point_to(monkeypatch, address)
        found = locate("hf-hub:org/model")[1]
        assert {p.name: p.read_bytes() for p in found.iterdir()} == files
        x = torch.randn(2, 3, 32, 32)
        assert torch.equal(adios_zoo.load_model("hf-hub:org/model@main")(x), adios_zoo.load_model(folder)(x))
        assert not any("notes.txt" in call for call in hub.calls)
        for name, words in {
            "org/other": "no org/other, or it is private",
            "org/model@v9": "no branch, tag or commit 'v9'",
            "org/model@empty": "has no model.safetensors",
        }.items():
            with pytest.raises(DownloadError, match=words) as caught:
                locate(f"hf-hub:{name}")
            assert "\n" not in str(caught.value)
        hub.refuses = (403, {"X-Error-Code": "GatedRepo"})
        with pytest.raises(DownloadError, match="is gated"):
            locate("hf-hub:org/model@gated")
        hub.refuses = (500, {})
        with pytest.raises(DownloadError, match="answers 500"):
            locate("hf-hub:org/model@other")
        assert locate("hf-hub:org/model")[1] == found  # the cache serves while the Hub is ill


@pytest.mark.parametrize("name", ["model", "org/", "a/b/c", "org/mo del", "org/mo..del", "../x"])
@pytest.mark.parametrize("ask", [locate, card_of])
def test_names_that_the_hub_cannot_have(name: str, ask: Callable[[str], object], hub_cache: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be a repository"):
        ask(f"hf-hub:{name}")


def test_a_card_alone_comes_without_weights(hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved_model(tmp_path / "m")
    hub = Hub("org/model", {path.name: path.read_bytes() for path in folder.iterdir()})
    hub.branches["v1"] = 0
    with running(hub) as address:
        point_to(monkeypatch, address)
        for name in ("org/model", "org/model@v1"):
            assert card_of(f"hf-hub:{name}") == card_of(str(folder))
        with pytest.raises(DownloadError, match="no branch, tag or commit 'v9'"):
            card_of("hf-hub:org/model@v9")
        assert not any("safetensors" in call for call in hub.calls)
        assert locate("hf-hub:org/model")[0] == card_of(str(folder))  # what is there already stands in no one's way
    assert card_of("hf-hub:org/model") == card_of(str(folder))


@pytest.mark.parametrize("variable", ["ADIOS_OFFLINE", "HF_HUB_OFFLINE", None])
def test_not_cached_and_no_network(variable: str | None, hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if variable:
        monkeypatch.setenv(variable, "1")
    start = time.monotonic()
    with pytest.raises(DownloadError, match="hf download org/model") as caught:
        locate("hf-hub:org/model")
    assert time.monotonic() - start < 2
    assert "\n" not in str(caught.value)


def test_a_half_cache_is_not_taken(hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = put(hub_cache, saved_model(tmp_path / "m"))
    (folder / "masker.safetensors").unlink()
    for value in ("1", "0"):
        monkeypatch.setenv("ADIOS_OFFLINE", value)
        with pytest.raises(AdiosError, match="hf download"):
            locate("hf-hub:org/model")


def test_a_hub_that_hangs(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(**{"/api/models/org/model": b"{}"})
    files.always = "hang"
    monkeypatch.setenv("ADIOS_TIMEOUT", "0.3")
    with running(files) as address:
        point_to(monkeypatch, address)
        start = time.monotonic()
        with pytest.raises(DownloadError, match=r"cannot be asked .*no answer within 0.3 s; ADIOS_TIMEOUT"):
            locate("hf-hub:org/model")
        assert time.monotonic() - start < 2


def with_onnx(folder: Path) -> Path:
    """Give a model folder a file in ``onnx/`` that its card names."""
    (folder / "onnx").mkdir()
    (folder / "onnx" / "encoder.onnx").write_bytes(b"graph")
    write_card(card_of_folder(folder), folder, also=[folder / "onnx" / "encoder.onnx"])
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_onnx_files_come_too(hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = contents(with_onnx(saved_model(tmp_path / "m")))
    with running(Hub("org/model", files)) as address:
        point_to(monkeypatch, address)
        assert contents(locate("hf-hub:org/model")[1]) == files


def test_a_cached_commit_without_its_onnx_files_is_completed(
    hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = contents(with_onnx(saved_model(tmp_path / "m")))
    found = put(hub_cache, tmp_path / "m", sha=Hub.sha(0))
    shutil.rmtree(found / "onnx")
    assert locate("hf-hub:org/model")[1] == found  # no network: the model itself is there
    with running(Hub("org/model", files)) as address:
        point_to(monkeypatch, address)
        assert contents(locate(f"hf-hub:org/model@{Hub.sha(0)}")[1]) == files


def test_of_a_branch_only_its_commit_is_asked_for(
    hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub("org/model", contents(saved_model(tmp_path / "m")))
    hub.branches["dev/x"] = 0
    with running(hub) as address:
        point_to(monkeypatch, address)
        found = locate("hf-hub:org/model")[1]
        for revision, path in {"": "", "@main": "/revision/main", "@dev/x": "/revision/dev/x"}.items():
            del hub.calls[:]
            assert locate(f"hf-hub:org/model{revision}")[1] == found
            assert hub.calls == [f"GET /api/models/org/model{path}"]
        hub.commits.append(contents(saved_model(tmp_path / "n", name="later")))
        hub.branches["main"] = 1
        assert locate("hf-hub:org/model")[0].name == "later"
    monkeypatch.setenv("ADIOS_OFFLINE", "1")  # the names are known without the Hub
    assert locate("hf-hub:org/model")[0].name == "later"
    assert locate("hf-hub:org/model@dev/x")[1] == found
