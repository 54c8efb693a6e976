"""Which tests a change concerns: those of its modules by mirrored path, and those that import these modules directly.

``python -m tests.changed [BASE]`` prints them, for what differs from the commit ``BASE`` (the last one, unless told
otherwise) and for files that git does not track yet; `make quick` runs them.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.conftest import ROOT

_PACKAGES = {"adios_zoo": "adios_zoo", "train": "adios_zoo.train", "export": "adios_zoo.export"}


def changed_files(base: str) -> list[str]:
    """Files that differ from ``base`` or are new, as paths from the root."""
    git = ["git", "-C", str(ROOT)]
    differ = subprocess.run([*git, "diff", "--name-only", base], capture_output=True, text=True, check=True).stdout
    new = [*git, "ls-files", "--others", "--exclude-standard"]
    return sorted({*differ.split(), *subprocess.run(new, capture_output=True, text=True, check=True).stdout.split()})


def concerned(files: Iterable[str], tests: Iterable[Path]) -> list[str]:
    """The test files, as paths from the root, that the changed ``files`` concern."""
    files = set(files)
    modules = {module for file in files if (module := _module(file))}
    mirrored = {_mirror(file) for file in files}
    found = []
    for test in tests:
        place = test.relative_to(ROOT).as_posix()
        if place in files or place in mirrored or modules & _imported(test):
            found.append(place)
    return sorted(found)


def _module(file: str) -> str | None:
    """The dotted name of a module of the packages."""
    top, _, rest = file.partition("/")
    if top not in _PACKAGES or not rest.endswith(".py"):
        return None
    return ".".join([_PACKAGES[top], *rest.removesuffix(".py").removesuffix("/__init__").split("/")])


def _mirror(file: str) -> str:
    """Where the tests of a module are: ``adios_zoo/features/journal.py`` -> ``tests/features/test_journal.py``."""
    path = Path(file.removeprefix("adios_zoo/"))
    return (Path("tests") / path.parent / f"test_{path.name}").as_posix()


def _imported(test: Path) -> set[str]:
    """The modules, dotted, that a test imports; of ``from package import name`` also ``package.name``."""
    found = set()
    for node in ast.walk(ast.parse(test.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


if __name__ == "__main__":
    print("\n".join(concerned(changed_files(*sys.argv[1:] or ["HEAD"]), sorted((ROOT / "tests").rglob("test_*.py")))))
