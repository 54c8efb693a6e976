"""Learning rates and BYOL's tau against the authors' schedules."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from adios_zoo.train.run.schedules import byol_tau, warmup_cosine

from tests.conftest import golden

DATA = json.loads((golden("schedules.json") / "schedules.json").read_text())
CASES = [
    (case, method, optimiser, group)
    for case, content in DATA["warmup_cosine"].items()
    for method, optimisers in content.items()
    if method != "settings" and isinstance(optimisers, dict)
    for optimiser, groups in optimisers.items()
    if isinstance(groups, list)
    for group in groups
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{c[1]}-{c[3]['name']}")
def test_rates(case: tuple[str, str, str, dict[str, object]]) -> None:
    name, method, optimiser, group = case
    settings = DATA["warmup_cosine"][name]["settings"]
    base = settings[{"classifier": "classifier_lr"}.get(group["name"], "lr")]
    if optimiser == "mask_optimizer":
        base = settings["mask_lr"]
    length = settings["max_epochs"]
    if optimiser == "encoder_optimizer":
        length -= settings.get("train_mask_epoch", 0)
    for epoch, rate in enumerate(group["lr"]):
        found = warmup_cosine(
            epoch,
            base,
            warmup_epochs=settings["warmup_epochs"],
            max_epochs=length,
            start=settings["warmup_start_lr"],
            minimum=settings["min_lr"],
        )
        if method == "simsiam" and group["name"] == "predictor":
            found = base if epoch else settings["warmup_start_lr"]
        assert found == pytest.approx(rate, abs=1e-12), (epoch, group["name"])


def test_the_cases_are_all_there() -> None:
    assert len(CASES) >= 12


@pytest.mark.parametrize("warmup", [0, 1, 2, 5])
def test_by_the_step_the_rate_never_passes_its_peak(warmup: int) -> None:
    rates = [warmup_cosine(i / 50, 0.2, warmup_epochs=warmup, max_epochs=10) for i in range(500)]
    assert max(rates) == pytest.approx(0.2, abs=0.005 if warmup == 1 else 1e-9)
    assert max(rates) <= 0.2 + 1e-12
    assert rates[-1] < 0.001
    assert all(abs(a - b) < 0.02 for a, b in pairwise(rates))


def test_byol_tau() -> None:
    tau = DATA["byol_tau"]
    found = [
        byol_tau(step, tau["total_steps"], base=tau["base"], final=tau["final"])
        for step in range(len(tau["used_after_step"]))
    ]
    assert found == pytest.approx(tau["used_after_step"], abs=1e-12)
