"""Charts: every point within the plot, ticks that can be told apart, long logs made short."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from adios_zoo.train.report.charts import Line, Mark, binned, chart, number


def line(*points: tuple[float, float]) -> Line:
    return Line("loss", *np.array(points, float).reshape(-1, 2).T, "red")


def points(svg: str, kind: str) -> list[tuple[float, float]]:
    (path,) = re.findall(rf'<path class="{kind}"[^>]* d="M([^"Z]*)', svg)
    return [tuple(map(float, pair.split())) for pair in path.split("L")]  # type: ignore[misc]


def test_a_curve_runs_from_corner_to_corner() -> None:
    text = chart("Loss", "Falls & rises.", [line((0, 0.0), (5, 2.0), (10, 4.0))], unit=" %")
    page = ElementTree.fromstring(text)
    assert page.find("./svg") is not None
    (x0, y0), (_, middle), (x1, y1) = points(text, "line")
    assert x0 < x1
    assert y0 > y1  # downwards in SVG
    assert middle == pytest.approx((y0 + y1) / 2, abs=0.11)
    assert "loss <b>4 %</b>" in text
    assert "Loss. At the end: loss 4 %." in text
    assert "epoch 5\nloss 2 %" in text  # under the pointer
    assert "Falls &amp; rises." in text


def test_no_points_no_chart() -> None:
    assert chart("Loss", "", [line(), line((0.0, math.nan))]) == ""


def test_one_point_and_level_curves() -> None:
    for values in ([(3.0, 5.0)], [(0.0, 0.0), (1.0, 0.0)], [(0.0, -177.2), (1.0, -177.2)]):
        text = chart("Loss", "", [line(*values)])
        assert "nan" not in text
        ElementTree.fromstring(text)


def test_ticks_differ() -> None:
    text = chart("Entropy", "", [line((0, -177.21), (1, -177.43))])
    ticks = re.findall(r'text-anchor="end">([^<]*)<', text)[:-1]
    assert len(ticks) > 2
    assert len(set(ticks)) == len(ticks)


def test_marks_within_the_plot_only() -> None:
    share = line((0, 0.2), (1, 0.3))
    text = chart("Share", "", [share], marks=[Mark(0.25, "even <share>"), Mark(7.0, "far away")], bounds=(0.0, None))
    assert "even &lt;share&gt;" in text
    assert "far away" not in text


def test_a_long_log_is_made_short() -> None:
    values = [(k / 1000, math.sin(k / 9000) + (5.0 if k == 50_000 else 0.0)) for k in range(100_000)]
    long = line(*values)
    found = binned(long.x, long.y, 100)
    assert len(found) == 100
    assert max(b.high for b in found) > 4  # the outlier is still to be seen
    assert all(b.low <= b.y <= b.high for b in found)
    assert found[30].y == pytest.approx(math.sin(30_500 / 9000), abs=0.01)
    text = chart("Loss", "", [long])
    assert len(text) < 40_000
    assert 'class="band"' in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (12.345, "12.3"),
        (-177.4, chr(0x2212) + "177"),
        (1234567.0, "1.23e+06"),
        (12345.0, "12,345"),
        (0.00001, "1.00e-05"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text
