"""The commands where something that programs expect is missing: a home, stderr, letters."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from adios_zoo.environment import cache_home, expanded
from adios_zoo.errors import ConfigError
from adios_zoo.features.extract_to_file import extract_to_file
from adios_zoo.pictures.draw import draw_masks
from adios_zoo.sources.index import load_index, save_index
from adios_zoo.telling import on_terminal, progress_bar, tell
from tests.small_models import saved_model, small_model
from tests.tiny import small_images, tiny_extractor

# What the system gives for a user without an entry in passwd.
HOMELESS = "import os, pwd; os.environ.pop('HOME', None)\ndef none(uid): raise KeyError(uid)\npwd.getpwuid = none\n"
ADIOS = "import sys; from adios_zoo.cli import main; sys.exit(main(sys.argv[1:]))"


def adios(
    *arguments: object, code: str = ADIOS, shell: str = "", env: Sequence[tuple[str, str]] = ()
) -> subprocess.CompletedProcess[bytes]:
    """Run the command in a shell that closes or turns streams as ``shell`` says."""
    command = [sys.executable, "-c", code, *map(os.fspath, arguments)]  # type: ignore[call-overload]
    environment = {**os.environ, "ADIOS_OFFLINE": "1", "OMP_NUM_THREADS": "1", **dict(env)}
    script = f'exec "$@" {shell}'
    return subprocess.run(["sh", "-c", script, "sh", *command], capture_output=True, env=environment, timeout=300)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved_model(tmp_path / "model")


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    def none(uid: int) -> None:
        raise KeyError(uid)

    for name in ("HOME", "ADIOS_HOME", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", none)


@pytest.mark.usefixtures("homeless")
def test_without_a_home_nothing_is_kept_and_nothing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_index("key", {})
    assert load_index("key") is None
    assert list(tmp_path.iterdir()) == []
    assert expanded("~/a") == Path("~/a")
    with pytest.raises(ConfigError, match="ADIOS_HOME"):
        cache_home()
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_home() == Path("/xdg/huggingface/adios-zoo")


def test_commands_without_a_home(model: Path, tmp_path: Path) -> None:
    images = small_images(tmp_path / "images", count=2)
    empty = [(name, "") for name in ("ADIOS_HOME", "HF_HOME", "XDG_CACHE_HOME")]
    code = (
        HOMELESS + "from adios_zoo.cli import main\n"
        "import sys; folder, model, out = sys.argv[1:]\n"
        "for line in (['list'], ['data', folder], ['extract', folder, '-o', out + '.npy', '--model', model],\n"
        "             ['masks', folder, '-o', out, '--model', model, '--quiet'], ['recipes']):\n"
        "    assert main(line) == 0, line\n"
        "sys.exit(main(['cache']))"
    )
    done = adios(images, model, tmp_path / "out", code=code, env=empty)
    assert done.returncode == 2, done.stderr
    assert done.stderr.decode().splitlines()[-1:] == [
        "adios: This user has no home directory to keep anything in; name a folder in ADIOS_HOME."
    ]


@pytest.mark.parametrize("shell", ["2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_commands_with_closed_streams(shell: str, model: Path, tmp_path: Path) -> None:
    images = small_images(tmp_path / "images", count=2)
    (images / "bad.png").write_bytes(b"no picture")
    out = tmp_path / "f.csv"
    done = adios("extract", images, "-o", out, "--model", model, shell=shell)
    assert (done.returncode, done.stderr if "2>" in shell else b"") == (1, b"")
    # Nothing that is told on stderr gets into a file that happens to be opened under its number.
    assert len(out.read_text().splitlines()) == 3
    assert adios("list", shell=shell).returncode == 0
    assert adios("no-such-command", shell=shell).returncode == 2


class _Tee:
    """What people put in the place of stderr: it can be written to, and that is all."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


def _closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [None, object(), _closed(), _Tee()], ids=["none", "object", "closed", "tee"])
@pytest.mark.parametrize("progress", [False, True])
def test_library_without_a_usable_stderr(
    stream: object, progress: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = small_images(tmp_path / "images", count=2)
    (images / "bad.png").write_bytes(b"no picture")
    monkeypatch.setattr(sys, "stderr", stream)
    report = extract_to_file(str(images), tmp_path / "f.npy", extractor=tiny_extractor(), progress=progress)
    assert (report.rows, len(report.failures)) == (2, 1)
    drawn = draw_masks(small_model(), str(images), tmp_path / "masks", progress=progress)
    assert (len(drawn.written), len(drawn.failures)) == (2, 1)
    assert not on_terminal()
    tell("a line")
    assert list(progress_bar([1, 2], show=progress)) == [1, 2]
    if isinstance(stream, _Tee):
        assert "bad.png: not an image" in stream.text
        assert stream.text.endswith("a line\n") or progress
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_names_that_stdout_lacks_are_escaped(encoding: str, tmp_path: Path) -> None:
    folder = tmp_path / "图片-é"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "ü 猫.png")
    done = adios("data", folder, env=[("PYTHONIOENCODING", encoding)])
    assert done.returncode == 0, done.stderr
    shown = "图片-é/ü 猫.png".encode(encoding, "backslashreplace")
    assert shown in done.stdout
    missing = adios("data", folder / "无", env=[("PYTHONIOENCODING", encoding)])
    assert missing.returncode == 1
    assert "无".encode(encoding, "backslashreplace") in missing.stderr
    assert b"Unicode" not in missing.stderr


def test_names_beyond_the_encoding_of_the_file_system(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bilder-é"
    folder.mkdir()
    for name in ("ü 猫", "plain"):
        Image.effect_noise((40, 40), 60).convert("RGB").save(folder / f"{name}.png")
    (folder / "list.txt").write_text("ü 猫.png\nplain.png\n", encoding="utf-8")
    ascii_only = [("LC_ALL", "C"), ("PYTHONUTF8", "0"), ("PYTHONCOERCECLOCALE", "0")]
    out = tmp_path / "aus-é"
    for source in (folder, folder / "list.txt"):
        for suffix in ("parquet", "csv") if source == folder else ("csv",):
            file = out / f"f.{suffix}"
            done = adios("extract", "--force", source, "-o", file, "--model", model, "--quiet", env=ascii_only)
            assert done.returncode == 0, done.stderr
        assert f"{folder}/ü 猫.png" in (out / "f.csv").read_text(encoding="utf-8")
        done = adios("masks", source, "-o", out / "masks", "--model", model, "--quiet", env=ascii_only)
        assert done.returncode == 0, done.stderr
        assert sorted(path.name for path in (out / "masks").iterdir()) == ["plain.png", "ü 猫.png"]
        (out / "masks" / "ü 猫.png").unlink()
    done = adios("data", folder, env=ascii_only)
    assert done.returncode == 0, done.stderr
