"""The package as it is installed: what the wheel holds, what an import costs, one direction of imports."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT


def test_import_is_light() -> None:
    heavy = ("torch", "torchvision", "timm", "numpy", "PIL", "pyarrow", "sklearn", "huggingface_hub")
    script = f"import sys, adios_zoo; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_line_starts_without_torch() -> None:
    script = (
        "import sys, adios_zoo.cli\n"
        "try: adios_zoo.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    out, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    # Not in the checkout: what an earlier build left there would get into the wheel.
    for folder in ("adios_zoo", "train", "export"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(build, check=True, capture_output=True, cwd=out)
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path).namelist()


def test_the_wheel_holds_the_package_and_nothing_else(wheel: list[str]) -> None:
    tops = {name.split("/")[0] for name in wheel}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"adios_zoo"}


def test_the_wheel_holds_every_module_and_all_data(wheel: list[str]) -> None:
    wanted = {f"adios_zoo/{p.relative_to(ROOT / 'adios_zoo').as_posix()}" for p in files_of(ROOT / "adios_zoo")}
    for name in ("train", "export"):
        wanted |= {f"adios_zoo/{name}/{p.relative_to(ROOT / name).as_posix()}" for p in files_of(ROOT / name)}
    assert {n for n in wheel if n.startswith("adios_zoo/")} == wanted
    assert any(n.endswith("masker.safetensors") for n in wheel)


def files_of(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts]


def test_every_subpackage_is_listed() -> None:
    line = re.search(
        r"^packages = (\[\n    \"adios_zoo\".*?\])$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL
    )
    assert line is not None
    listed = set(ast.literal_eval(line[1]))
    found = set()
    for name in ("adios_zoo", "train", "export"):
        for init in (ROOT / name).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT).parts
            found.add(".".join(parts if name == "adios_zoo" else ("adios_zoo", *parts)))
    assert listed == found


def test_imports_point_one_way() -> None:
    for path in (ROOT / "adios_zoo").rglob("*.py"):
        if path.parent.name == "commands" or path.name == "_checkout.py":  # the command line joins all parts
            continue
        assert not re.search(r"adios_zoo\.(train|export)\b.*import|import adios_zoo\.(train|export)", path.read_text())
