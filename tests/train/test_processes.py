"""Two real processes: the gradients, and a whole run, of one process with the whole batch."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from adios_zoo.train.processes import Processes
from safetensors.torch import load_file

from adios_zoo.errors import ConfigError
from tests.conftest import ROOT
from tests.train.small import write_images

RECIPE = """
set: shapes
epochs: 2
batch_size: 8
image_size: 32
probe: true
encoder: {architecture: test_resnet}
masker: {image_size: 32, slots: 3, base_channels: 8}
game: {method: METHOD, mask_use: USE, alpha_entropy: 0.2, projector_hidden: 16, projector_output: 8}
# Small steps: after a few large ones round-off, other for half a batch, has grown to anything.
optimiser: {warmup_epochs: 0, lr: 0.0003, masker_lr: 0.0003, probe_lr: 0.003}
"""


def two_processes(*command: str) -> list[subprocess.CompletedProcess[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    world |= {"OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        ended = [(p, *p.communicate(timeout=300)) for p in started]
    finally:
        for p in started:
            p.kill()
    return [subprocess.CompletedProcess(p.args, p.returncode, out, err) for p, out, err in ended]


@pytest.fixture(scope="module")
def differences() -> dict[str, dict[str, float]]:
    """Of each game's gradients and statistics from those of one process, relative to the largest value."""
    ended = two_processes("-m", "tests.train.two_processes")
    for process in ended:
        assert process.returncode == 0, process.stderr
    return json.loads(ended[0].stdout)


@pytest.mark.parametrize("method", ["simclr", "byol", "simsiam"])
@pytest.mark.parametrize("use", ["all", "one"])
@pytest.mark.parametrize("what", ["encoder", "classifier", "masker", "statistics"])
def test_gradients_are_those_of_the_whole_batch(
    differences: dict[str, dict[str, float]], method: str, use: str, what: str
) -> None:
    assert differences[f"{method} {use}"][what] < 1e-9


@pytest.mark.parametrize(("method", "use"), [("simclr", "all"), ("byol", "one")])
def test_a_run_of_two_processes_ends_like_a_run_of_one(tmp_path: Path, method: str, use: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.replace("METHOD", method).replace("USE", use))
    source = write_images(tmp_path / "data.parquet", count=20, broken=(3,))
    arguments = ("-m", "adios_zoo.cli", "pretrain", str(recipe), "max_bad_share=0.1", "--data", source, "--quiet", "-o")
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *arguments, str(tmp_path / "one")], cwd=ROOT, env=env, check=True)
    for process in two_processes(*arguments, str(tmp_path / "two")):
        assert process.returncode == 0, process.stderr
    for name in ("model", "masker"):
        one, two = (load_file(tmp_path / run / "model" / f"{name}.safetensors") for run in ("one", "two"))
        for key, value in one.items():
            torch.testing.assert_close(two[key], value, rtol=1e-2, atol=1e-3, msg=lambda m, key=key: f"{key}: {m}")
    one, two = (
        [json.loads(line) for line in (tmp_path / run / "log.jsonl").read_text().splitlines()] for run in ("one", "two")
    )
    assert [r["step"] for r in two] == [r["step"] for r in one]
    for a, b in zip(one, two, strict=True):
        shared = [k for k in a if k not in ("seconds", "images_per_second")]
        assert [b[k] for k in shared] == pytest.approx([a[k] for k in shared], rel=1e-2, abs=1e-3)
    (listed,) = (tmp_path / "two" / "unreadable.tsv").read_text().splitlines()
    assert "data.parquet[3]\t" in listed


def test_a_batch_is_split_evenly() -> None:
    assert Processes(torch.device("cpu"), 1, 4).part(8) == slice(2, 4)
    with pytest.raises(ConfigError, match="batch_size 10 cannot be split among 4 processes"):
        Processes(torch.device("cpu"), 1, 4).part(10)
