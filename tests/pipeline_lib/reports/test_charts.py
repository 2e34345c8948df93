"""Charts: drawn where the numbers say, and told in words."""

import re

import pytest

from pipeline_lib.reports import (
    Bin,
    Curve,
    Spread,
    Step,
    Whisker,
    calibration_chart,
    curve_chart,
    histogram_chart,
    matrix_table,
    number,
    percent,
    spread_chart,
    verdict,
    waterfall_chart,
    whisker_chart,
)
from pipeline_lib.reports.axis import fitted
from pipeline_lib.reports.spread import LONGEST, shortened
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


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.62, 0.66], (0.62, 0.63, 0.64, 0.65, 0.66)),
        ([-0.3, 0.3], (-0.2, 0.0, 0.2)),
        ([0, 1000], (0, 500, 1000)),
        ([0.5], (0.46, 0.48, 0.5, 0.52, 0.54)),
    ],
)
def test_axis_fits_its_values_with_round_ticks(values: list[float], ticks: tuple[float, ...]) -> None:
    axis = fitted(values)
    assert axis.ticks == ticks
    assert all(0 < axis.place(value) < 100 for value in values)
    assert fitted([0.1 * n for n in range(4)]) == fitted([0.1 * n for n in range(4)])


def test_axis_holds_a_mark_that_is_near_and_leaves_out_a_far_one() -> None:
    assert fitted([0.6, 0.7], mark=0.5).holds(0.5) and fitted([0.6, 0.7], mark=0.85).holds(0.85)
    far = fitted([0.98, 0.99], mark=0.5)
    assert not far.holds(0.5) and far.low > 0.97


def test_spread_draws_estimates_intervals_and_runs_where_they_are() -> None:
    rows = [
        Spread("clean", 0.75, 0.5, 1.0, [0.5, 1.0], "better", strong=True),
        Spread("flip30", 0.25, None, None),
    ]
    chart = str(spread_chart(rows, "Win rate", "s", percent, 0.0))
    axis = fitted([0.25, 0.5, 1.0], 0.0)
    dots = [float(x) for x in re.findall(r'<circle cx="([\d.]+)%"', chart)]
    assert dots == pytest.approx([axis.place(value) for value in (0.75, 0.5, 1.0, 0.25)], abs=0.01)
    assert chart.count('class="run"') == 2 and chart.count('class="whisker"') == 3
    assert chart.count('class="middle-line"') == 1 == chart.count('class="reference-line"')
    assert "clean: 75.0%, interval 50.0% to 100.0%, single runs 50.0%, 100.0%; flip30: 25.0%." in chart
    assert '75.0%<tspan class="ends">  (50.0% to 100.0%)</tspan>' in chart
    assert '<g class="better strong">' in chart


def test_long_names_are_cut_in_the_middle() -> None:
    assert shortened("clean") == "clean"
    cut = shortened("beta=500 recipe=flip20 settings=learning_rate:2e-05")
    assert len(cut) == LONGEST and cut.startswith("beta=500 recip") and cut.endswith("g_rate:2e-05")
    assert len(shortened("日" * 40)) < LONGEST


def test_curve_with_another_behind_it_shares_its_axes() -> None:
    own, other = Curve("Loss", [1, 2], [0.5, 0.4]), Curve("clean", [1, 5], [0.3, 0.2])
    chart = str(curve_chart(own, "c", other, (0.0, 1.0)))
    assert 'class="behind"' in chart and "M0.00,50.00 L25.00,60.00" in chart
    assert "For comparison, clean: first 0.3, last 0.2." in chart and "highest 0.5" in chart
    assert 'class="behind"' not in str(curve_chart(own, "c"))


def test_same_data_same_bytes_and_ids_of_their_own() -> None:
    charts = [
        histogram_chart([0, 1], [3], HOSTILE, "one"),
        waterfall_chart(1, [Step(HOSTILE, 1)], HOSTILE, "two"),
        calibration_chart([Bin(0.5, 0.5, 0.2, 0.7, 3)], HOSTILE, "three"),
        whisker_chart([Whisker(HOSTILE, 0.5, 0.4, 0.6)], HOSTILE, "four"),
        curve_chart(Curve(HOSTILE, [1, 5], [0.5, 0.4]), "five", Curve(HOSTILE, [1], [0.5])),
        spread_chart([Spread(HOSTILE, 0.5, 0.4, 0.6)], HOSTILE, "six", number),
    ]
    assert HOSTILE not in "".join(charts)
    Page("".join(charts)).check()
    assert charts[0] == histogram_chart([0, 1], [3], HOSTILE, "one")
