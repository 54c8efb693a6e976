"""The examples of docs/ecosystem.md, run as they stand; the commands and options of docs/evaluation.md."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adios_zoo.cli import _parsed, _parser, main
from tests.conftest import ROOT

DOCS = ROOT / "docs"


def blocks(name: str) -> list[tuple[str, str]]:
    """Language and text of each block of code."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", (DOCS / name).read_text(), re.DOTALL | re.MULTILINE)


def test_the_examples_of_the_ecosystem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for kind, colour in (("cat", (200, 90, 30)), ("dog", (30, 90, 200))):
        Path("photos", kind).mkdir(parents=True)
        for i in range(6):
            pixels = np.array(colour) + random.integers(-25, 25, (64, 64, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(f"photos/{kind}/{i}.jpg")
    names: dict[str, object] = {}
    for language, text in blocks("ecosystem.md"):
        if language == "python":
            exec(text, names)
            continue
        for line in text.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "adios"
            assert main(arguments) == 0, line
    printed = capsys.readouterr().out
    assert "['cat' 'cat' 'cat']" in printed
    assert re.search(r"^\d\.\d{3} photos/cat/\d\.jpg$", printed, re.MULTILINE)
    assert Image.open("neighbours.png").width > 600


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    found = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found = found.union(*map(options_of, action.choices.values()))
    return found


def test_the_commands_and_options_of_evaluation() -> None:
    commands = [line for _, text in blocks("evaluation.md") for line in text.replace("\\\n", "").splitlines()]
    evaluations = [shlex.split(line, comments=True)[1:] for line in commands if line.startswith("adios ")]
    assert len(evaluations) > 10
    for arguments in evaluations:
        assert callable(_parsed(arguments).run)
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", (DOCS / "evaluation.md").read_text()))
    assert not named - options_of(_parser())
