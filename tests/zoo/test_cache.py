"""Where fetched models lie, and the command that lists and removes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from adios_zoo.cli import main
from adios_zoo.environment import cache_home, offline
from adios_zoo.errors import ConfigError, DataError
from adios_zoo.zoo import cache


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv("ADIOS_HOME", str(home))
    for name, size in {
        "models/resnet18_in100_byol/model.safetensors": 1000,
        "models/resnet18_in100_byol/onnx/encoder.onnx": 500,
        "models/vit_tiny_in100s_byol/model.safetensors": 30,
        "downloads/x.zip.part": 7,
    }.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(b"\0" * size)
    return home


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"ADIOS_HOME": "/a/b"}, "/a/b"),
        ({"ADIOS_HOME": "~/a"}, "/home/me/a"),
        ({"ADIOS_HOME": "$HOME/a", "HF_HOME": "/hf"}, "/home/me/a"),
        ({"HF_HOME": "/hf"}, "/hf/adios-zoo"),
        ({"HF_HOME": "~/hf", "XDG_CACHE_HOME": "/xdg"}, "/home/me/hf/adios-zoo"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/huggingface/adios-zoo"),
        ({"ADIOS_HOME": ""}, "/home/me/.cache/huggingface/adios-zoo"),
    ],
)
def test_the_place(variables: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ADIOS_HOME", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_home() == Path(place)


def test_offline_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ADIOS_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    assert offline() is None
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert offline() is None
    monkeypatch.setenv("HF_HUB_OFFLINE", "true")
    assert offline() == "HF_HUB_OFFLINE"
    monkeypatch.setenv("ADIOS_OFFLINE", "1")
    assert offline() == "ADIOS_OFFLINE"


def test_entries(home: Path) -> None:
    assert {entry.name: entry.bytes for entry in cache.entries()} == {
        "resnet18_in100_byol": 1500,
        "vit_tiny_in100s_byol": 30,
        "x.zip.part": 7,
    }


def test_remove(home: Path) -> None:
    with pytest.raises(ConfigError, match="no nothing in"):
        cache.remove(["x.zip.part", "nothing"])
    assert len(cache.entries()) == 3
    removed = cache.remove(["resnet18_in100", "resnet18_in100_byol", "x.zip.part"])  # an alias and its model
    assert [entry.name for entry in removed] == ["resnet18_in100_byol", "x.zip.part"]
    assert [entry.name for entry in cache.entries()] == ["vit_tiny_in100s_byol"]


def test_what_is_being_converted_is_not_listed(home: Path) -> None:
    left = home / "models" / ".vit_tiny_in100s_byol.1234abcd"
    left.mkdir()
    assert len(cache.entries()) == 3
    cache.remove(["vit_tiny_in100s_byol"])
    assert not left.exists()


def test_what_is_in_use_is_not_removed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [home / "downloads" / f"byol_adioss_imagenet100.zip.part{tail}" for tail in ("", ".json")]
    for part in parts:
        part.write_bytes(b"x")
    with cache.model_lock("resnet18_in100_byol"):
        for names in (["x.zip.part", "resnet18_in100"], [parts[0].name], [parts[1].name], ["--all"]):
            assert main(["cache", "remove", *names]) == 1
            err = capsys.readouterr().err
            assert "resnet18_in100_byol is in use" in err
            assert len(err.splitlines()) == 1
        assert len(cache.entries()) == 5
        cache.remove(["vit_tiny_in100s_byol"])
    cache.remove([entry.name for entry in cache.entries()])
    assert not cache.entries()


def test_what_cannot_be_removed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cache.shutil, "rmtree", refuse)
    with pytest.raises(DataError, match=r"Permission denied.*ADIOS_HOME"):
        cache.remove(["vit_tiny_in100s_byol"])


def test_the_command(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{home}: 3 entries\n")
    assert "resnet18_in100_byol" in out
    assert main(["cache", "remove", "vit_tiny_in100s"]) == 0
    assert capsys.readouterr().out == f"removed {home}/models/vit_tiny_in100s_byol\n"
    for arguments in (["remove"], ["remove", "x.zip.part", "--all"], ["remove", "nothing"]):
        assert main(["cache", *arguments]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(["cache", "remove", "--all"]) == 0
    assert main(["cache", "list"]) == 0
    assert capsys.readouterr().out.endswith(f"{home}: no entries\n")


def test_an_empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ADIOS_HOME", str(tmp_path / "nowhere"))
    assert main(["cache"]) == 0
    assert main(["cache", "remove", "--all"]) == 0
    assert not (tmp_path / "nowhere").exists()
