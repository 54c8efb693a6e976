"""The examples of docs/ecosystem.md, run as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adios_zoo.cli import main

DOCS = Path(__file__).parents[1] / "docs"


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
