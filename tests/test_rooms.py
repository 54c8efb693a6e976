"""The rooms: imports go down from room to room, never round in a circle, and no room is too full to look through."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import adios_zoo.export
import adios_zoo.train
import pytest

import adios_zoo
from tests.conftest import ROOT

PACKAGES = {"adios_zoo": "adios_zoo", "train": "adios_zoo.train", "export": "adios_zoo.export"}

# From the ground up: the modules of a room import those of their own room and of the rooms before it.
ORDER = (
    "adios_zoo",
    "adios_zoo/images",
    "adios_zoo/sources",
    "adios_zoo/models",
    "adios_zoo/official",
    "adios_zoo/zoo",
    "adios_zoo/features",
    "adios_zoo/search",
    "adios_zoo/pictures",
    "train",
    "train/recipe",
    "train/game",
    "train/data",
    "train/report",
    "train/run",
    "train/evaluate",
    "train/evaluate/accuracy",
    "train/evaluate/segmentation",
    "train/evaluate/robustness",
    "train/study",
    "train/release",
    "export",
    "adios_zoo/commands",
)

# What stands in a folder and belongs above all rooms: the packages' public names, and the program.
ABOVE = {"adios_zoo/__init__.py", "train/__init__.py", "export/__init__.py", "adios_zoo/cli.py"}

# Looked up when called: a model is loaded and published by the zoo; a SOURCE is opened by its kind.
LATE = {
    ("adios_zoo/models/model.py", "adios_zoo/zoo/load.py"),
    ("adios_zoo/models/model.py", "adios_zoo/zoo/publish.py"),
}
MOST_MODULES = 14


def modules() -> dict[str, Path]:
    """Every module of the packages by its dotted name."""
    found = {}
    for folder, package in PACKAGES.items():
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts)))] = path
    return found


def named_by(node: ast.AST, package: str) -> list[str]:
    """What an import statement names, dotted; ``package`` is the one that it stands in."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        parts = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*parts, *([node.module] if node.module else [])])
    return [f"{base}.{alias.name}" for alias in node.names]


def imports(found: dict[str, Path]) -> set[tuple[str, str]]:
    """(importer, imported) of all import statements, also those inside functions, as paths from the root."""
    arrows = set()
    for name, path in found.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for target in named_by(node, package):
                while target and target not in found:
                    target = target.rpartition(".")[0]
                if target and target != name:
                    arrows.add((place(path), place(found[target])))
    return arrows


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def floor(module: str) -> int:
    return len(ORDER) if module in ABOVE else ORDER.index(module.rpartition("/")[0])


def upward(arrows: set[tuple[str, str]]) -> set[tuple[str, str]]:
    return {(one, other) for one, other in arrows if floor(one) < floor(other)} - LATE


def circle(arrows: set[tuple[str, str]]) -> list[str]:
    graph: dict[str, set[str]] = {}
    for one, other in arrows - LATE:
        graph.setdefault(one, set()).add(other)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_folder_of_modules_is_a_room() -> None:
    assert {place(path.parent) for path in modules().values()} == set(ORDER)


def test_imports_go_down() -> None:
    assert upward(imports(modules())) == set()


def test_imports_make_no_circle() -> None:
    assert circle(imports(modules())) == []


def test_the_late_ones_are_there() -> None:
    assert imports(modules()) >= LATE


@pytest.mark.parametrize(
    ("one", "other"), [("adios_zoo/files.py", "adios_zoo/zoo/cache.py"), ("train/game/game.py", "train/run/loop.py")]
)
def test_an_arrow_up_is_seen(one: str, other: str) -> None:
    arrows = imports(modules()) | {(one, other)}
    assert upward(arrows) == {(one, other)}


def test_a_circle_is_seen() -> None:
    arrows = imports(modules()) | {("train/game/losses.py", "train/game/game.py")}
    assert {"train/game/losses.py", "train/game/game.py"} <= set(circle(arrows))


def test_an_import_inside_a_function_counts() -> None:
    (node,) = ast.parse("def f():\n    from ..run import loop").body
    statements = [named_by(inner, "adios_zoo.train.game") for inner in ast.walk(node)]
    assert ["adios_zoo.train.run.loop"] in statements


@pytest.mark.parametrize("room", ORDER)
def test_no_room_is_too_full(room: str) -> None:
    assert len([p for p in (ROOT / room).glob("*.py") if p.name != "__init__.py"]) <= MOST_MODULES


@pytest.mark.parametrize("package", [adios_zoo, adios_zoo.train, adios_zoo.export])
def test_the_public_names(package: object) -> None:
    assert sorted(package.__all__) == sorted(package._HOME)
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert name in dir(package)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        getattr(package, "nothing")  # noqa: B009 (a plain attribute would be no statement)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_has_the_name_of_a_public_name_beside_it(package: str) -> None:
    beside = {path.stem for path in (ROOT / package).iterdir()}
    dotted = {"adios_zoo": adios_zoo, "train": adios_zoo.train, "export": adios_zoo.export}[package]
    assert not beside & set(dotted.__all__)
