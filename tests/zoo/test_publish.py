"""A model folder to the Hub, against a server that stands in for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import adios_zoo
from adios_zoo.cli import main
from adios_zoo.errors import AdiosError, CardError, ConfigError, DownloadError, IntegrityError
from adios_zoo.models.card import card_of_folder
from adios_zoo.models.model import write_card
from adios_zoo.zoo.publish import publish
from tests.server import Hub, running
from tests.small_models import saved_model, small_model
from tests.zoo.test_fetch import hub_cache, point_to  # noqa: F401

MODEL = {"README.md", "config.json", "golden.safetensors", "masker.safetensors", "model.safetensors"}


@pytest.fixture
def hub(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:  # noqa: F811
    for name in ("ADIOS_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_test")
    hub = Hub("org/model")
    with running(hub) as address:
        point_to(monkeypatch, address)
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = saved_model(tmp_path / "m")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "encoder.onnx").write_bytes(b"graph")
    write_card(card_of_folder(folder), folder, also=[folder / "onnx" / "encoder.onnx"])
    (folder / "onnx" / "masker.onnx").write_bytes(b"of weights that were here before")
    (folder / "notes.txt").write_text("the author's own")
    (folder / ".env").write_text("secret")
    return folder


def test_one_commit_with_the_models_files(hub: Hub, folder: Path) -> None:
    done = publish(folder, "org/model", private=True, message="Second epoch")
    (commit,) = hub.commits
    assert set(commit) == set(done.files) == {*MODEL, "onnx/encoder.onnx"}
    assert {name: len(content) for name, content in commit.items()} == done.files
    for name in set(commit) - {"README.md"}:
        assert commit[name] == (folder / name).read_bytes()
    assert b'load_model("hf-hub:org/model")' in commit["README.md"]
    assert b"THIS_FOLDER" not in commit["README.md"]
    assert hub.headers[0]["summary"] == "Second epoch"
    assert done.address is not None
    assert done.address.endswith(f"/org/model/commit/{Hub.sha(0)}")
    steps = ("create", "preupload", "batch", "PUT", "commit/main")
    order = [next(i for i, call in enumerate(hub.calls) if step in call) for step in steps]
    assert order == sorted(order)
    assert sum("/commit/" in call for call in hub.calls) == 1
    assert hub.tokens - {None} == {"Bearer hf_of_the_test"}


def test_there_and_back(hub: Hub) -> None:
    model = small_model()
    model.push_to_hub("org/model")
    x = torch.randn(2, 3, 32, 32)
    loaded = adios_zoo.load_model("hf-hub:org/model")
    assert torch.equal(loaded(x), model(x))
    assert torch.equal(loaded.masks(x), model.masks(x))


def test_a_branch(hub: Hub, folder: Path) -> None:
    publish(folder, "org/model", revision="v2")
    assert any(call.endswith("/branch/v2") for call in hub.calls)
    assert any(call.endswith("/commit/v2") for call in hub.calls)


def test_a_dry_run_sends_nothing(hub: Hub, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", str(folder), "--repo", "org/model", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert {line.split()[1] for line in out.splitlines()[:-1]} == {*MODEL, "onnx/encoder.onnx"}
    assert "Nothing was sent" in out
    assert not hub.calls
    assert main(["publish", str(folder), "--repo", "org/model"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("http://127.0.0.1")
    assert len(hub.commits) == 1


def test_what_does_not_load_is_not_sent(hub: Hub, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CardError):
        publish(tmp_path, "org/model")
    path = folder / "masker.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError):
        publish(folder, "org/model")
    assert not hub.calls


@pytest.mark.parametrize("repo", ["model", "a/b/c", "org/mo del", "org/-x", ""])
def test_wrong_names(hub: Hub, folder: Path, repo: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a repository"):
        publish(folder, repo, dry_run=True)
    assert not hub.calls


@pytest.mark.parametrize("status", [401, 403, 404, 422])
def test_refusals_are_one_sentence(hub: Hub, folder: Path, status: int) -> None:
    hub.refuses = (status, {})
    with pytest.raises(DownloadError, match="hf auth login" if status in (401, 403) else str(status)) as caught:
        publish(folder, "org/model")
    assert "\n" not in str(caught.value)
    assert "hf_of_the_test" not in str(caught.value)


def test_no_network(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_to(monkeypatch, "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(DownloadError, match="could not be published"):
        publish(folder, "org/model")
    monkeypatch.setenv("ADIOS_OFFLINE", "1")
    with pytest.raises(AdiosError, match="ADIOS_OFFLINE"):
        publish(folder, "org/model")
    assert publish(folder, "org/model", dry_run=True).address is None
    assert time.monotonic() - start < 3
