"""The comparison as tables and a picture."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adios_zoo.errors import BackendError

from ..evaluate.robustness.occlusion import OCCLUSIONS
from ..recipe.recipe import parse_recipe
from .study import ARMS, BUDGETS, RANDOM, VARIANTS, Budget, rows

_HIDDEN = "0.5"
_FIGURES = {
    "k-NN": ("knn",),
    "linear": ("linear",),
    "transfer, k-NN": ("transfer_knn",),
    **{f"half hidden, {kind}": ("occlusion", kind, _HIDDEN) for kind in OCCLUSIONS},
}
_COLOURS = ("#555555", "#3b75af", "#70a8d8", "#c8553d", "#8c2d19")


@dataclass(frozen=True)
class Group:
    """The runs of one method and arm under one budget, which differ in their seeds."""

    arm: str
    cost: float
    runs: list[Mapping[str, Any]]

    def values(self, figure: tuple[str, ...]) -> list[float]:
        """A figure of each run."""
        return [_get(run["figures"], figure) for run in self.runs]


def groups(study: Mapping[str, Any], method: str, budget: Budget, arms: Iterable[str]) -> Iterator[Group]:
    """What a comparison has of these arms, in their order."""
    recipe = parse_recipe(study["recipe"], what="The study's recipe")
    costs = study["costs"]
    known = [arm for arm in arms if arm in costs.get(method, {})]
    for row in rows(recipe, costs, budgets=[budget], methods=[method], arms=known, seeds=[0]):
        like = [r for r in study["runs"] if (r["method"], r["arm"], r["epochs"]) == (method, row.arm, row.epochs)]
        if like:
            yield Group(row.arm, costs[method][row.arm] / costs[method]["none"], like)


def tables(study: Mapping[str, Any]) -> str:
    """Markdown: for each method and budget the arms, with mean and standard deviation over the seeds."""
    random = Group(RANDOM, 0, [run for run in study["runs"] if run["arm"] == RANDOM])
    parts = []
    for method in study["costs"]:
        for budget in BUDGETS:
            found = list(groups(study, method, budget, ARMS))
            if found:
                parts += [f"**{method}, equal {budget}**", "", *_table([random, *found] if random.runs else found), ""]
        variants = list(groups(study, method, "images", ("adios-one", *VARIANTS)))
        if len(variants) > 1:
            parts += [f"**{method}, variants of adios-one, equal images**", "", *_table(variants, chosen=True), ""]
    return "\n".join(parts)


def _table(found: list[Group], *, chosen: bool = False) -> list[str]:
    figures = ({"k-NN, validation": ("knn_validation",)} if chosen else {}) | _FIGURES
    lines = [
        f"| masks | seeds | images seen | time an image | {' | '.join(figures)} |",
        f"|---|--:|--:|--:|{'--:|' * len(figures)}",
    ]
    for group in found:
        cells = [_spread(group.values(figure)) for figure in figures.values()]
        cost = f"{group.cost:.2f}" if group.cost else ""
        seen = f"{group.runs[0]['images_seen']:,}"
        lines.append(f"| {group.arm} | {len(group.runs)} | {seen} | {cost} | {' | '.join(cells)} |")
    return lines


def commands(study: Mapping[str, Any]) -> str:
    """Markdown: the command of each run, whose folder is its last word."""
    return "\n".join(f"    {run['command']}" for run in study["runs"] if run["arm"] != RANDOM)


def _spread(values: list[float]) -> str:
    mean = statistics.mean(values)
    return f"{mean:.2f}" if len(values) == 1 else f"{mean:.2f} ± {statistics.stdev(values):.2f}"


def _get(figures: Any, path: tuple[str, ...]) -> float:
    for name in path:
        figures = figures[name]
    return float(figures)


def draw(study: Mapping[str, Any], file: Path) -> None:
    """k-NN accuracy of every run, by method and budget, and accuracy under occlusion, as an SVG file.

    Variants are left out; nothing is written of a comparison that has no other arm.

    Raises:
        BackendError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BackendError(
            "The picture is drawn by matplotlib; pip install 'adios-zoo[evaluate]' brings it."
        ) from error
    panels = [
        (method, budget, found)
        for method in study["costs"]
        for budget in BUDGETS
        if (found := list(groups(study, method, budget, ARMS)))
    ]
    if not panels:
        return
    with matplotlib.rc_context({"svg.hashsalt": "adios-zoo", "svg.fonttype": "path", "font.size": 9}):
        hidden = [(panel, kind) for panel in panels if panel[1] == panels[0][1] for kind in OCCLUSIONS]
        columns = max(len(panels), len(hidden))
        figure = Figure(figsize=(3.1 * columns, 6.4), layout="constrained")
        axes = figure.subplots(2, columns, squeeze=False)
        random = [_get(run["figures"], ("knn",)) for run in study["runs"] if run["arm"] == RANDOM]
        for ax, (method, budget, found) in zip(axes[0], panels, strict=False):
            _accuracies(ax, found, random)
            ax.set_title(f"{method}, equal {budget}")
        for ax, ((method, budget, found), kind) in zip(axes[1], hidden, strict=False):
            _occlusion(ax, found, kind)
            ax.set_title(f"{method}, equal {budget}")
        for ax in axes.flat:
            ax.set_visible(ax.has_data())
            ax.spines[["top", "right"]].set_visible(False)
        figure.savefig(file, format="svg", metadata={"Date": None})


def _accuracies(ax: Any, found: list[Group], random: list[float]) -> None:
    for place, group in enumerate(found):
        values, colour = group.values(("knn",)), _colour(group.arm)
        ax.plot([place] * len(values), values, "o", color=colour, alpha=0.45, markersize=4)
        ax.plot([place - 0.25, place + 0.25], [statistics.mean(values)] * 2, color=colour, linewidth=2)
    ax.set_xticks(range(len(found)), [group.arm for group in found], rotation=35, ha="right")
    if random:
        ax.axhline(statistics.mean(random), color="#999999", linestyle=":", linewidth=1)
        ax.text(0, statistics.mean(random), "random initialisation", color="#777777", fontsize=7, va="bottom")
    ax.set_ylabel("k-NN top-1, %")


def _occlusion(ax: Any, found: list[Group], kind: str) -> None:
    shares = [float(share) for share in found[0].runs[0]["figures"]["occlusion"][kind]]
    for group in found:
        means = [statistics.mean(group.values(("occlusion", "clean")))]
        means += [statistics.mean(group.values(("occlusion", kind, f"{share:g}"))) for share in shares]
        ax.plot([0, *shares], means, marker="o", markersize=3, color=_colour(group.arm), label=group.arm)
    ax.set_xlabel(f"share of the image hidden ({kind})")
    ax.set_ylabel("linear probe top-1, %")
    ax.legend(frameon=False, fontsize=8)


def _colour(arm: str) -> str:
    return _COLOURS[list(ARMS).index(arm)]
