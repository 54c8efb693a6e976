"""``report.html``: a run on one page that needs nothing but itself.

It is made from what the run's folder holds, so it can be made at any time, of a run that goes on or was killed too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from adios_zoo.files import write_text
from adios_zoo.telling import tell

from ..recipe.settings import Recipe
from .charts import number
from .curves import curves
from .health import slots_of, verdicts
from .picture_strips import detail, strip
from .run_files import RunFiles, read_run

_METHODS = {"simclr": "SimCLR", "byol": "BYOL", "simsiam": "SimSiam"}
_USES = {"all": "all masks of an image", "one": "one mask drawn for each image"}


def write_report(folder: Path, path: Path | None = None) -> Path:
    """Write the report of the run in ``folder``, to ``folder/report.html`` unless told otherwise; where it is.

    Raises:
        ConfigError: the folder holds no run.
        DataError: the report cannot be written.
    """
    path = path or folder / "report.html"
    write_text(path, report(read_run(folder)))
    return path


@contextmanager
def reported(folder: Path) -> Iterator[None]:
    """Write a report when the block ends, also if it fails; a failure is not hidden by one of the report."""
    try:
        yield
    except BaseException:
        try:
            write_report(folder)
        except Exception as error:
            tell(f"There is no report: {error}")
        raise
    write_report(folder)


def report(run: RunFiles) -> str:
    """The page."""
    architecture, trained_on = run.setting("encoder.architecture", "An encoder"), run.setting("set", "its data")
    title = f"{architecture} on {trained_on}"
    parts = [
        _header(run, title),
        _section("At the end" if _ended_well(run) else "So far", _tiles(run)),
        _section("Health of the game", _health(run)),
        _section("Masks over time", strip(run.pictures)),
        _section("Latest masks, one by one", detail(run.pictures)),
        _section("Curves", f'<div class="charts">{"".join(curves(run))}</div>' if run.log else ""),
        _section("Figures", _figures(run)),
        _section("Data, code and machine", _facts(run)),
        _section("Settings", _settings(run.recipe)),
    ]
    css = (resources.files("adios_zoo.train.report") / "page.css").read_text(encoding="utf-8")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(f"{title}: {run.name}")}</title>
<style>
{css}</style>
</head>
<body>
<main>
{"".join(parts)}
</main>
</body>
</html>
"""


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n{content}\n</section>\n" if content else ""


def _ended_well(run: RunFiles) -> bool:
    return bool(run.sessions) and run.sessions[-1].get("why") == "finished"


def _header(run: RunFiles, title: str) -> str:
    method = _METHODS.get(run.setting("game.method", ""), run.setting("game.method", "?"))
    slots, use = slots_of(run.log), run.setting("game.mask_use", "")
    masks = f", {slots} masks, {_USES.get(use, use)}" if slots else ""
    game = f"ADIOS with {method}{masks}" if run.learned else f"{method}, masks: {run.setting('masker.kind')}"
    images = run.facts.get("images")
    about = game + f"; {images:,} images, {run.setting('epochs', '?')} epochs" if isinstance(images, int) else game
    level, state = _state(run)
    return (
        f'<header>\n<p class="name">{escape(run.name)}</p>\n<h1>{escape(title)}</h1>\n<p>{escape(about)}.</p>\n'
        f'<p class="state {level}">{escape(state)}</p>\n</header>\n'
    )


def _state(run: RunFiles) -> tuple[str, str]:
    """How far the run is, and how that is to be judged."""
    steps = run.facts.get("steps")
    where = f"step {run.step:,}" + (f" of {steps:,}" if isinstance(steps, int) else "")
    last = run.sessions[-1] if run.sessions else {}
    when, why = _time(last.get("ended", last.get("started", ""))), str(last.get("why", ""))
    if why == "finished":
        return "good", f"Finished on {when}."
    if why == "stopped":
        return "warning", f"Stopped at {where} on {when}; --resume goes on."
    if why:
        return "bad", f"Failed at {where} on {when}: {why.removeprefix('failed: ')}"
    return "warning", f"At {where}, and no end is noted: it goes on, or was killed."


def _tiles(run: RunFiles) -> str:
    """The figures that matter most."""
    shown: list[tuple[str, str, str]] = []

    def add(name: str, label: str, unit: str = "") -> None:
        values = run.values(name)
        if values:
            shown.append((label, number(values[-1]) + unit, f"{number(values[0])}{unit} at first"))

    add("knn_top1", "k-NN top-1", " %")
    add("probe_accuracy", "Linear probe, batch", " %")
    add("loss", "Loss")
    add("deviation", "Embedding deviation")
    seconds = run.values("seconds")
    if seconds:
        epochs = run.setting("epochs", "?")
        done = run.step / run.facts["steps_per_epoch"] if run.facts.get("steps_per_epoch") else None
        of = f"{number(round(done, 1))} of {epochs} epochs" if done is not None else f"{epochs} epochs planned"
        shown.append(("Training time", str(timedelta(seconds=round(seconds[-1]))), of))
    rates = sorted(run.values("images_per_second"))
    if rates:
        shown.append(("Images per second", number(rates[len(rates) // 2]), "median"))
    return (
        '<ul class="tiles">'
        + "".join(f"<li><span>{escape(a)}</span><b>{escape(b)}</b><small>{escape(c)}</small></li>" for a, b, c in shown)
        + "</ul>"
        if shown
        else "<p>Nothing is logged yet.</p>"
    )


def _health(run: RunFiles) -> str:
    signs = {"good": "✓", "warning": "!", "bad": "✕"}
    found = verdicts(
        run.log,
        run.setting("watch", {}),
        learned=run.learned,
        classes=int(run.facts.get("classes") or 0),
        queries=int(run.facts.get("queries") or 0),
        unreadable=run.unreadable,
        images=int(run.facts.get("images") or 0),
    )
    return (
        '<ul class="health">'
        + "".join(
            f'<li class="{v.level}"><i aria-label="{v.level}">{signs[v.level]}</i><div><h3>{escape(v.title)}</h3>'
            f"<p>{escape(v.text)}</p></div></li>"
            for v in found
        )
        + "</ul>"
        if found
        else ""
    )


def _figures(run: RunFiles) -> str:
    """First, last and extreme values, for those who do not read curves."""
    rows = []
    for name, (_, values) in run.log.items():
        finite = values[np.isfinite(values)]
        if len(finite) and name not in ("step", "epoch"):
            rows.append([name, *(number(float(v)) for v in (values[0], values[-1], finite.min(), finite.max()))])
    return _table(["value", "first", "last", "least", "most"], rows) if rows else ""


def _facts(run: RunFiles) -> str:
    f = run.facts
    rows = [
        ("images", f"{f['images']:,}" if isinstance(f.get("images"), int) else None),
        ("source", f.get("source")),
        ("held-out images", f.get("held_out")),
        ("unreadable images", f"{run.unreadable:,}"),
        ("classes", f.get("classes") or "no labels"),
        ("fingerprint of the data", f.get("fingerprint")),
        ("code", f.get("code")),
        ("machine", f.get("machine")),
        ("processes", f.get("processes")),
        ("torch", f.get("torch")),
    ]
    facts = _table([], [[name, str(value)] for name, value in rows if value is not None])
    sessions = []
    for k, begin in enumerate(run.sessions):
        if "started" in begin:
            end = run.sessions[k + 1] if k + 1 < len(run.sessions) and "ended" in run.sessions[k + 1] else {}
            ended = _time(end["ended"]) if end else ""
            how = str(end.get("why", "not noted: it goes on, or was killed"))
            step = f"{begin.get('step', 0):,}"
            sessions.append(
                [_time(begin["started"]), step, ended, str(end.get("step", "")), how, str(begin.get("code"))]
            )
    heads = ["started", "at step", "ended", "at step", "how", "code"]
    return facts + (f"<h3>Sessions</h3>{_table(heads, sessions)}" if sessions else "")


def _settings(recipe: Mapping[str, Any]) -> str:
    """The resolved recipe; what differs from the defaults stands out."""
    defaults = dict(_flat(json.loads(json.dumps(Recipe().to_dict()))))
    rows, changed = [], 0
    for name, value in _flat(recipe):
        default = defaults.get(name)
        differs = value != default
        changed += differs
        mark = ' class="changed"' if differs else ""
        texts = (name, json.dumps(value), json.dumps(default) if differs else "")
        rows.append(f"<tr{mark}>" + "".join(f"<td>{escape(text)}</td>" for text in texts) + "</tr>")
    head = "<thead><tr><th>setting</th><th>value</th><th>default, where another</th></tr></thead>"
    return (
        f"<details><summary>{len(rows)} settings, {changed} of them not the default</summary>"
        f'<div class="scroll"><table>{head}<tbody>{"".join(rows)}</tbody></table></div></details>'
    )


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _table(heads: list[str], rows: list[list[str]]) -> str:
    head = f"<thead><tr>{''.join(f'<th>{escape(h)}</th>' for h in heads)}</tr></thead>" if heads else ""
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'


def _time(text: object) -> str:
    """A time as a reader likes it."""
    try:
        time = datetime.fromisoformat(str(text)).astimezone(timezone.utc)
        return f"{time.day} {time:%b %Y, %H:%M} UTC"
    except ValueError:
        return str(text)
