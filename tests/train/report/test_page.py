"""A report of any run: finished, stopped, failed, still going, without labels, without masks, hostile."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adios_zoo.train.report.page import reported, write_report
from adios_zoo.train.report.pictures import picture_path, write_picture
from adios_zoo.train.report.run_files import read_run, spread

from adios_zoo.cli import main
from adios_zoo.errors import ConfigError
from tests.train.small import small_recipe

FACTS = {
    "started": "2025-03-01T10:00:00+00:00",
    "step": 0,
    "images": 1200,
    "fingerprint": "abc123",
    "steps": 300,
    "steps_per_epoch": 100,
    "classes": 10,
    "queries": 500,
    "source": "parquet:data/<train>.parquet",
    "code": "adios-zoo 1.2.3",
    "machine": "x86_64, 2 cores",
}


class Page(HTMLParser):
    """Texts and addresses of a page whose tags are all closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.headings: list[str] = []
        self.alternatives: list[str] = []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "link"):
            self.open.append(tag)
        given = dict(attrs)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "img":
            self.alternatives.append(given["alt"] or "")
        assert tag != "script"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h2", "h3"):
            self.headings.append(data)


def write_run(folder: Path, *, sessions: list[dict[str, Any]], records: list[dict[str, Any]], **recipe: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.json").write_text(json.dumps(small_recipe(**recipe).to_dict()))
    for name, rows in (("sessions", sessions), ("log", records)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def log(steps: int = 300, every: int = 20) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"step": 0, "epoch": 0, "knn_top1": 11.0, "knn_top5": 50.0}]
    for step in range(0, steps, every):
        rows.append({"step": step, "epoch": step // 100, "loss": 5 - step / 100, "deviation": 0.9})
        rows[-1] |= {"area_0": 0.4, "area_1": 0.6, "mask_entropy": 0.4, "lr_encoder": 0.1, "lr_projector": 0.1}
        rows[-1] |= {"probe_accuracy": 20.0, "images_per_second": 100.0, "seconds": step / 10}
    return [*rows, {"step": steps, "epoch": steps // 100, "knn_top1": 31.0, "knn_top5": 80.0}]


def end(why: str, step: int = 300) -> dict[str, Any]:
    return {"ended": "2025-03-01T11:00:00+00:00", "step": step, "why": why}


def draw(folder: Path, epochs: int, slots: int = 2) -> None:
    rng = np.random.default_rng(0)
    for epoch in range(epochs + 1):
        masks = rng.random((3, slots, 16, 16), np.float32) + 0.01
        images = rng.random((3, 16, 16, 3), np.float32)
        write_picture(picture_path(folder, epoch), images, masks / masks.sum(1, keepdims=True), epoch=epoch, caption="")


def test_a_finished_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", sessions=[FACTS, end("finished")], records=log())
    draw(run, 30)
    (run / "unreadable.tsv").write_text("a.jpg\tbroken\nb.jpg\tbroken\n")
    path = write_report(run)
    text = path.read_text()
    page = Page(text)
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert len(page.addresses) == 3 * (1 + 12) + 3 * (2 + 2)
    assert all(page.alternatives)
    assert path.stat().st_size < 1_000_000
    assert {"At the end", "Health of the game", "Masks over time", "The game", "Share of the pixels"} <= set(
        page.headings
    )
    assert {"No collapse", "Every mask has its share", "The features got better"} <= set(page.headings)
    for said in ("Finished on 1 Mar 2025, 11:00 UTC.", "31 %", "11 % at first", "abc123", "adios-zoo 1.2.3", "0:00:28"):
        assert said in text, said
    assert "2 images (0.166 %) could not be read" in text
    assert "parquet:data/&lt;train&gt;.parquet" in text
    assert re.search(r'class="changed"><td>encoder.architecture</td><td>&quot;test_resnet&quot;', text)
    assert "encoder, projector <b>0.1</b>" in text  # one line for the same rates


@pytest.mark.parametrize(
    ("sessions", "said"),
    [
        ([FACTS], "At step 300 of 300, and no end is noted"),
        ([FACTS, end("stopped", 120)], "Stopped at step 300 of 300 on 1 Mar 2025, 11:00 UTC; --resume goes on."),
        ([FACTS, end("failed: <collapsed>", 120)], "11:00 UTC: &lt;collapsed&gt;"),
        ([], "At step 300, and no end is noted"),
        ([FACTS, FACTS, end("finished")], "not noted: it goes on, or was killed"),
    ],
)
def test_how_a_run_ended(tmp_path: Path, sessions: list[dict[str, Any]], said: str) -> None:
    assert said in write_report(write_run(tmp_path / "run", sessions=sessions, records=log())).read_text()


def test_without_labels_masks_or_anything(tmp_path: Path) -> None:
    bare = [{"step": k, "epoch": 0, "loss": 1.0} for k in range(0, 100, 20)]
    facts = {k: v for k, v in FACTS.items() if k != "classes"}
    page = Page(write_report(write_run(tmp_path / "bare", sessions=[facts], records=bare)).read_text())
    assert "The game" in page.headings
    assert not {"Share of the pixels", "Masks over time", "What labels can be read off"} & set(page.headings)
    text = write_report(write_run(tmp_path / "new", sessions=[], records=[])).read_text()
    assert "Nothing is logged yet." in text
    Page(text)


def test_masks_that_nobody_learns(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", sessions=[FACTS], records=log(), masker={"kind": "patches", "slots": 2})
    text = write_report(run).read_text()
    assert "SimCLR, masks: patches; 1,200 images, 3 epochs." in text
    assert "No collapse" in text
    assert "Every mask has its share" not in text


def test_a_long_log_makes_a_small_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", sessions=[FACTS], records=log(200_000, 2))
    path = write_report(run)
    assert len(read_run(run).log["loss"].values) == 100_000
    assert path.stat().st_size < 500_000


def test_not_a_number_and_broken_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [*log(), {"step": 300, "epoch": 3, "loss": float("nan"), "deviation": float("inf")}]
    run = write_run(tmp_path / "run", sessions=[FACTS], records=rows)
    with (run / "log.jsonl").open("a") as file:
        file.write('{"step": 1, "lo')
    draw(run, 1)
    picture_path(run, 1).write_bytes(b"no picture")
    text = write_report(run).read_text()
    assert "Numbers got out of hand" in text
    assert "not a mask picture" in capsys.readouterr().err
    Page(text)


def test_names_are_not_markup(tmp_path: Path) -> None:
    run = write_run(tmp_path / "<b>run</b>", sessions=[FACTS], records=log(), set="<img src=x>")
    text = write_report(run).read_text()
    assert "<b>run" not in text
    assert "<img src=x" not in text


def test_a_failure_is_not_hidden(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="collapsed"), reported(tmp_path / "no run"):
        raise ValueError("collapsed")
    assert "There is no report" in capsys.readouterr().err
    run = write_run(tmp_path / "run", sessions=[FACTS, end("stopped")], records=log())
    with pytest.raises(KeyboardInterrupt), reported(run):
        raise KeyboardInterrupt
    assert (run / "report.html").exists()


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", sessions=[FACTS], records=log())
    assert main(["report", str(run), "-o", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").exists()
    assert main(["report", str(tmp_path)]) == 2
    assert "is not the folder of a run" in capsys.readouterr().err


def test_no_folder_no_report(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"recipe\.json"):
        read_run(tmp_path)


def test_evenly_chosen() -> None:
    assert spread(range(5), 12) == [0, 1, 2, 3, 4]
    assert spread(range(100), 4) == [0, 33, 66, 99]
