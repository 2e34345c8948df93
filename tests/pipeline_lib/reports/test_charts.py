"""Charts: drawn where the numbers say, and told in words."""

import re

import pytest

from pipeline_lib.reports import (
    Bin,
    Curve,
    Step,
    Whisker,
    calibration_chart,
    curve_chart,
    histogram_chart,
    matrix_table,
    verdict,
    waterfall_chart,
    whisker_chart,
)
from tests.pipeline_lib.pages import Page

HOSTILE = "<script>&"


def test_charts_say_in_words_what_they_show() -> None:
    chart = str(whisker_chart([Whisker("CLIP", 0.6, 0.55, 0.65, strong=False)], "Win rate of a & b", "c"))
    assert "CLIP: 60.0%, interval 55.0% to 65.0%." in chart
    assert "Win rate of a &amp; b" in chart and 'cx="60.00%"' in chart
    curve = str(curve_chart(Curve("Loss", [1], [0.5]), "d"))
    assert "1 values from step 1 to 1" in curve and "nan" not in curve


@pytest.mark.parametrize(("low", "high", "wanted"), [(0.51, 0.6, "better"), (0.4, 0.49, "worse"), (0.4, 0.5, "even")])
def test_verdict_asks_which_side_of_one_half_the_interval_is(low: float, high: float, wanted: str) -> None:
    assert verdict(low, high) == wanted


def rectangles(chart: str, kind: str) -> list[tuple[float, float]]:
    """(x, width) in percent of the rectangles of a class."""
    found = re.findall(rf'<rect class="{kind}" x="([\d.]+)%" y="[\d.]+" width="([\d.]+)%"', chart)
    return [(float(x), float(width)) for x, width in found]


def test_histogram_bars_follow_edges_and_counts() -> None:
    chart = str(histogram_chart([-1, 0, 3], [1, 4], "Scores", "h", mark=0))
    assert rectangles(chart, "bin") == [(0.0, 24.75), (25.0, 74.75)]
    assert [float(h) for h in re.findall(r'height="([\d.]+)"/>', chart)] == [24.0, 96.0]
    assert "5 values from −1 to 3; most, 4, between 0 and 3." in chart
    assert 'class="middle-line" x1="25.00%"' in chart
    with pytest.raises(ValueError, match="2 edges for 2 bars"):
        histogram_chart([0, 1], [1, 1], "Scores", "h")
    with pytest.raises(ValueError):
        histogram_chart([1, 1], [1], "Scores", "h")


def test_waterfall_steps_hang_where_the_count_stood() -> None:
    chart = str(waterfall_chart(200, [Step("ties", -50), Step("none", 0), Step("pseudo-labels", 20)], "Pairs", "w"))
    assert rectangles(chart, "whole") == [(0.0, 100.0), (0.0, 85.0)]
    assert rectangles(chart, "loss") == [(75.0, 25.0)] and rectangles(chart, "gain") == [(75.0, 10.0)]
    assert "Start: 200; ties: −50; none: 0; pseudo-labels: +20; Left: 170." in chart
    assert "Start: 0; Left: 0." in str(waterfall_chart(0, [], "Pairs", "w"))


def test_calibration_points_lie_at_prediction_and_outcome() -> None:
    chart = str(calibration_chart([Bin(0.25, 0.5, 0.4, 0.6, 10), Bin(0.75, 1.0, 0.9, 1.0, 40)], "Platt", "c"))
    assert re.findall(r'<circle cx="([\d.]+)%" cy="([\d.]+)" r="([\d.]+)"', chart) == [
        ("25.00", "148", "6"),
        ("75.00", "8", "8"),
    ]
    assert "predicted 25.0%, observed 50.0% of 10; predicted 75.0%, observed 100.0% of 40." in chart
    assert "no cases." in str(calibration_chart([], "Platt", "c"))


def test_matrix_is_a_table_with_shaded_cells() -> None:
    table = str(
        matrix_table(["a", HOSTILE], ["x", "y"], [["1", ""], ["0.5", "−1"]], [[1, None], [0.5, -1]], "kappa & co")
    )
    page = Page(table)
    assert page.text == "kappa & co x y a 1 <script>& 0.5 −1" and HOSTILE not in table
    assert [cell.get("style") for cell in page.all("td")] == [
        None, "--heat:1.00", None, "--heat:0.50", "--heat:1.00",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="heat are not 1 x 1"):
        matrix_table(["a"], ["x"], [["1"]], [[]], "")


def test_same_data_same_bytes_and_ids_of_their_own() -> None:
    charts = [
        histogram_chart([0, 1], [3], HOSTILE, "one"),
        waterfall_chart(1, [Step(HOSTILE, 1)], HOSTILE, "two"),
        calibration_chart([Bin(0.5, 0.5, 0.2, 0.7, 3)], HOSTILE, "three"),
        whisker_chart([Whisker(HOSTILE, 0.5, 0.4, 0.6)], HOSTILE, "four"),
        curve_chart(Curve(HOSTILE, [1, 5], [0.5, 0.4]), "five"),
    ]
    assert HOSTILE not in "".join(charts)
    Page("".join(charts)).check()
    assert charts[0] == histogram_chart([0, 1], [3], HOSTILE, "one")
