"""One output, one run at a time, and no finished file written over by accident."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from adios_zoo.cli import main
from adios_zoo.errors import ConfigError, DataError
from adios_zoo.features.extract_to_file import extract_to_file
from adios_zoo.features.read_file import read_features
from adios_zoo.files import only_writer
from tests.conftest import ROOT
from tests.small_models import saved_model
from tests.tiny import small_images, tiny_extractor

SUFFIXES = [".parquet", ".npy", ".safetensors", ".csv"]

HOLDS = """
import sys, time
from pathlib import Path
from adios_zoo.files import only_writer
with only_writer(Path(sys.argv[1])):
    print("holds", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_images(tmp_path / "images")


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("options", [{}, {"force": True}, {"resume": True}])
def test_a_second_run_is_refused_until_the_first_ends_or_dies(
    folder: Path, tmp_path: Path, options: dict[str, bool]
) -> None:
    output = tmp_path / "out" / "f.npy"
    process = subprocess.Popen([sys.executable, "-c", HOLDS, str(output)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "holds\n"
        with pytest.raises(DataError, match=r"f\.npy: another run is writing it; wait for that, or name another file"):
            extract_to_file(folder, output, extractor=tiny_extractor(), progress=False, **options)
        assert list(content(output.parent)) == [".f.npy.lock"]
        extract_to_file(folder, output.with_name("g.npy"), extractor=tiny_extractor(), progress=False)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert (output.parent / ".f.npy.lock").exists()
    assert extract_to_file(folder, output, extractor=tiny_extractor(), progress=False, **options).rows == 11
    names = {"f.npy", "f.npy.paths.txt", "g.npy", "g.npy.paths.txt"}
    assert set(content(output.parent)) == names


def test_two_in_one_process(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "f.npy"
    with only_writer(output), pytest.raises(DataError, match="another run is writing it"):
        extract_to_file(folder, output, extractor=tiny_extractor(), progress=False)
    assert extract_to_file(folder, output, extractor=tiny_extractor(), progress=False).rows == 11
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_finished_file_is_left_alone(folder: Path, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / "out" / f"f{suffix}"
    extract_to_file(folder, output, extractor=tiny_extractor(), progress=False)
    before = content(output.parent)
    (folder / "00.png").unlink()
    with pytest.raises(ConfigError, match=r"is there already; add --force to write it anew, or name another file"):
        extract_to_file(folder, output, extractor=tiny_extractor(), progress=False)
    report = extract_to_file(folder, output, extractor=tiny_extractor(), progress=False, resume=True)
    assert (report.rows, report.dim, report.finished_before, report.exit_code) == (11, 8, True, 0)
    assert content(output.parent) == before
    with pytest.raises(ConfigError, match="give one of them"):
        extract_to_file(folder, output, extractor=tiny_extractor(), progress=False, resume=True, force=True)
    assert extract_to_file(folder, output, extractor=tiny_extractor(), progress=False, force=True).rows == 10
    assert len(read_features(output)[0]) == 10


def test_a_file_of_another_model_is_not_called_finished(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "f.parquet"
    extract_to_file(folder, output, extractor=tiny_extractor(), progress=False)
    with pytest.raises(ConfigError, match=r"is finished, with another precision \(fp32, not bf16\); add --force"):
        extract_to_file(folder, output, extractor=tiny_extractor(precision="bf16"), progress=False, resume=True)
    output.write_text("a table of somebody's")
    with pytest.raises(DataError):
        extract_to_file(folder, output, extractor=tiny_extractor(), progress=False, resume=True)
    assert output.read_text() == "a table of somebody's"


def test_force_begins_anew_over_an_unfinished_run(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "f.npy"
    (tmp_path / "f.npy.unfinished").write_bytes(b"of another run")
    with pytest.raises(ConfigError, match="add --resume to go on with it, or --force to begin anew"):
        extract_to_file(folder, output, extractor=tiny_extractor(), progress=False)
    assert extract_to_file(folder, output, extractor=tiny_extractor(), progress=False, force=True).rows == 11
    assert not list(tmp_path.glob("*.unfinished"))


def test_the_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, model = tmp_path / "f.parquet", saved_model(tmp_path / "model")
    arguments = ["extract", str(folder), "-o", str(output), "--model", str(model), "--quiet"]
    assert main(arguments) == 0
    made = output.stat().st_mtime_ns
    capsys.readouterr()
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.err == (
        f"adios: {output} is there already; add --force to write it anew, or name another file with -o.\n"
    )
    assert main([*arguments, "--resume"]) == 0
    assert capsys.readouterr().out.startswith(f"{output}: finished already, 11 images, ")
    assert output.stat().st_mtime_ns == made
    assert main([*arguments, "--force"]) == 0
    assert output.stat().st_mtime_ns > made
