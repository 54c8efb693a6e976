"""The bench: what counting passes predicts, and one small case measured from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from adios_zoo.train.run.bench import Case, measure, predicted, standard_cases

from adios_zoo.cli import main
from adios_zoo.errors import ConfigError


@pytest.mark.parametrize(
    ("case", "plain", "engine"),
    [
        # SimCLR, N = 4: 18 forward, 16 + 4 backward; the engine's are 11, 10 + 4.
        (Case("simclr", 4), 38, 25),
        (Case("simclr", 6), 56, 35),
        (Case("simclr", 4, "one"), 11, 10),
        (Case("simsiam", 4, terms=("no_mask",)), 34 + 32 + 8, 20 + 20 + 8),
        (Case("simsiam", 4), 34 + 16 + 8, 20 + 16 + 8),
        (Case("byol", 6), 56 + 26, 35 + 8),
    ],
    ids=lambda case: case.label if isinstance(case, Case) else "",
)
def test_predictions(case: Case, plain: int, engine: int) -> None:
    assert predicted(case) == pytest.approx(plain / engine)


def test_the_standard_cases_are_like_the_one_given() -> None:
    cases = standard_cases(Case(size=64, batch=8, encoder="resnet50"))
    assert {(c.size, c.batch, c.encoder) for c in cases} == {(64, 8, "resnet50")}
    assert {c.method for c in cases} == {"simclr", "simsiam", "byol"}


def test_a_case_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    game = ["--method", "byol", "--slots", "2", "--mask-use", "one"]
    small = ["--size", "32", "--batch", "4", "--encoder", "test_resnet", "--masker-base", "8", "--rounds", "1"]
    assert main(["bench", "train", *game, *small, "--json", str(tmp_path / "figures.json")]) == 0
    assert "byol N=2, one" in capsys.readouterr().out
    (found,) = json.loads((tmp_path / "figures.json").read_text())
    assert found["case"]["method"] == "byol"
    assert found["speedup"] == pytest.approx(found["plain_seconds"] / found["engine_seconds"])
    assert found["memory"] == pytest.approx(found["engine_bytes"] / found["plain_bytes"])
    assert found["engine_bytes"] > 20 << 20


@pytest.mark.parametrize(
    ("case", "rounds", "reason"),
    [
        (Case(batch=1), 1, "batch_size"),
        (Case(masker_base=9), 1, "multiples of 8"),
        (Case(), 0, "rounds must be positive"),
    ],
)
def test_a_case_that_cannot_be(case: Case, rounds: int, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        measure(case, rounds=rounds)
