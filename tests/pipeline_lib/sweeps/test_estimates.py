"""Estimates against numbers worked out another way: one-sample and paired t, analysis of variance, symmetry."""

import dataclasses
import math

import numpy as np
import polars as pl
import pytest
from scipy import stats

from pipeline_lib.core.errors import ConfigError, EvaluationError, UnknownNameError
from pipeline_lib.evaluation.significance import holm
from pipeline_lib.sweeps.estimates import contrast, settings_table
from tests.pipeline_lib.sweeps.simulated import World

WORLD = World(settings=4, prompts=40)
MEANS = {"s0": 0.2, "s1": 0.1}


@pytest.fixture(scope="module")
def outcomes() -> pl.DataFrame:
    return WORLD.frame(WORLD.draw(np.random.default_rng(0), MEANS))


def whole(values: dict[str, list[float]], measure: str = "train/u_auroc") -> pl.DataFrame:
    """Outcomes of a measure without units."""
    rows = [
        {"setting": name, "seed": seed, "measure": measure, "unit": "", "value": value}
        for name, of_seeds in values.items()
        for seed, value in enumerate(of_seeds)
    ]
    return pl.DataFrame(rows, schema_overrides={"value": pl.Float32})


def test_models_as_a_whole_in_two_settings_are_a_paired_t_test_over_seeds() -> None:
    a, b = [0.5, 0.75, 0.625, 0.875], [0.25, 0.5, 0.5, 0.5]
    found = contrast(whole({"a": a, "b": b}), "train/u_auroc", {"a": 1, "b": -1})
    known = stats.ttest_rel(a, b)
    interval = known.confidence_interval()
    assert (found.p, found.df) == (pytest.approx(known.pvalue), 3)
    assert found.interval == pytest.approx([0.25, interval.low, interval.high])


def test_a_single_setting_as_a_whole_is_a_one_sample_t_test_over_seeds() -> None:
    a = [0.5, 0.75, 0.625, 0.875]
    found = contrast(whole({"a": a}), "train/u_auroc", {"a": 1}, null=0.5)
    assert found.p == pytest.approx(stats.ttest_1samp(a, 0.5).pvalue)
    assert found.null == 0.5


def test_seeds_that_change_nothing_leave_a_t_test_over_prompts() -> None:
    world = dataclasses.replace(WORLD, own_seed=0.0, rest=0.0)
    drawn = world.draw(np.random.default_rng(1), MEANS).astype(np.float32).astype(np.float64)
    found = contrast(world.frame(drawn), "gain/true", {"s0": 1, "s1": -1})
    known = stats.ttest_rel(drawn[0, :, 0], drawn[1, :, 0])
    assert found.p == pytest.approx(known.pvalue)
    assert found.interval[1:] == pytest.approx(list(known.confidence_interval()))
    assert found.df == pytest.approx(world.prompts - 1)


def test_pooled_variance_of_seeds_is_that_of_a_two_way_analysis() -> None:
    """The seeds' mean squares by least squares with dummies, for a setting that is more even than the others."""
    table = np.array([[0.5, 0.52, 0.51], [0.1, 0.3, 0.2], [0.7, 0.4, 0.9], [0.3, 0.5, 0.1]])
    settings, seeds = np.indices(table.shape).reshape(2, -1)
    y = table.ravel()

    def residual(*groups: np.ndarray) -> float:
        design = np.stack([np.ones(y.size), *[(g == v).astype(float) for g in groups for v in np.unique(g)[1:]]], 1)
        return float(np.sum((y - design @ np.linalg.lstsq(design, y, rcond=None)[0]) ** 2))

    both = residual(settings, seeds)
    interaction, of_seeds = both / 6, (residual(settings) - both) / 2
    found = contrast(whole({f"s{k}": row.tolist() for k, row in enumerate(table)}), "train/u_auroc", {"s0": 1})
    expected = (1 - 1 / 4) / 3 * interaction + 1 / 4 / 3 * of_seeds
    assert found.standard_error == pytest.approx(math.sqrt(expected), rel=1e-5)
    parts = ((1 - 1 / 4) / 3 * interaction, 6), (1 / 4 / 3 * of_seeds, 2)
    assert found.df == pytest.approx(expected**2 / sum(part**2 / df for part, df in parts), rel=1e-5)


def test_one_setting_has_the_variance_of_crossed_prompts_and_seeds() -> None:
    """(MS_prompts + MS_seeds - MS_rest) / (prompts * seeds), with Satterthwaite's degrees of freedom."""
    world = World(settings=1, prompts=12, seeds=4, own_seed=0.6)
    y = world.draw(np.random.default_rng(5)).astype(np.float32).astype(np.float64)
    rows, columns = y[0].mean(axis=1, keepdims=True), y[0].mean(axis=0, keepdims=True)
    squares = {
        11: 4 * float(np.sum((rows - y.mean()) ** 2)) / 11,
        3: 12 * float(np.sum((columns - y.mean()) ** 2)) / 3,
        33: -float(np.sum((y[0] - rows - columns + y.mean()) ** 2)) / 33,
    }
    found = contrast(world.frame(y), "gain/true", {"s0": 2.0})
    variance = 4 * sum(squares.values()) / 48
    assert variance > 4 * max(squares.values()) / 48, "else the largest part would be the answer"
    assert found.standard_error == pytest.approx(math.sqrt(variance))
    assert found.df == pytest.approx(sum(squares.values()) ** 2 / sum(ms**2 / df for df, ms in squares.items()))


def test_variance_is_not_taken_below_its_largest_part() -> None:
    """A rest that alternates leaves more in the interaction than in both margins together."""
    y = np.array([[[1.0, -1.0], [-1.0, 1.0], [1.25, -1.0], [-1.0, 1.0]]])
    found = contrast(World(settings=1, prompts=4, seeds=2).frame(y), "gain/true", {"s0": 1.0})
    by_prompts, by_seeds = y[0].mean(axis=1).var(ddof=1) / 4, y[0].mean(axis=0).var(ddof=1) / 2
    assert found.standard_error == pytest.approx(math.sqrt(max(by_prompts, by_seeds)))


def test_shares_stay_between_nothing_and_all() -> None:
    world = World(settings=2, prompts=8)
    y = (world.draw(np.random.default_rng(2), {"s0": 0.9}) > 0).astype(float)
    assert contrast(world.frame(y, "win/true"), "win/true", {"s0": 1.0}).high > 1.0
    interval = settings_table(world.frame(y, "win/true"), ["win/true"])["s0"]["estimates"]["win/true"]["interval"]
    assert interval[2] == 1.0 > interval[0] > interval[1] > 0.0


def test_a_seed_that_adds_the_same_to_all_cancels_in_a_difference(outcomes: pl.DataFrame) -> None:
    moved = outcomes.with_columns(pl.col("value") + pl.col("seed").cast(pl.Float32))
    difference = {"s0": 1.0, "s1": -1.0}
    before, after = (contrast(one, "gain/true", difference) for one in (outcomes, moved))
    assert dataclasses.astuple(after) == pytest.approx(dataclasses.astuple(before), rel=1e-4, abs=1e-6)
    assert contrast(moved, "gain/true", {"s0": 1}).standard_error > 0.5


def test_negated_weights_mirror_every_number_exactly(outcomes: pl.DataFrame) -> None:
    weights = {"s0": 1.0, "s2": -0.3, "s3": -0.7}
    one = contrast(outcomes, "gain/true", weights, null=0.1)
    other = contrast(outcomes, "gain/true", {name: -w for name, w in reversed(weights.items())}, null=-0.1)
    assert other.interval == [-one.point, -one.high, -one.low]
    assert (other.standard_error, other.df, other.p) == (one.standard_error, one.df, one.p)


def test_order_of_the_rows_decides_nothing(outcomes: pl.DataFrame) -> None:
    shuffled = outcomes.sample(fraction=1.0, shuffle=True, seed=3)
    assert settings_table(shuffled, ["gain/true"], "s0") == settings_table(outcomes, ["gain/true"], "s0")


def test_nothing_that_varies_is_certain() -> None:
    found = contrast(whole({"a": [0.25] * 3, "b": [0.5] * 3}), "train/u_auroc", {"a": 1}, null=0.25)
    assert found.interval == [0.25, 0.25, 0.25]
    assert (found.p, found.standard_error) == (1.0, 0.0)
    assert contrast(whole({"a": [0.25] * 3}), "train/u_auroc", {"a": 1}, null=0.5).p == 0.0


def test_table_has_estimates_and_corrected_differences(outcomes: pl.DataFrame) -> None:
    table = settings_table(outcomes, ["gain/true"], "s3")
    assert table["s3"]["against"] is None
    one = contrast(outcomes, "gain/true", {"s1": 1})
    assert table["s1"]["estimates"]["gain/true"]["interval"] == one.interval
    by_seed = table["s1"]["estimates"]["gain/true"]["by_seed"]
    assert list(by_seed) == ["0", "1", "2"]
    assert np.mean(list(by_seed.values())) == pytest.approx(one.point)
    against = [table[name]["against"]["gain/true"] for name in ("s0", "s1", "s2")]
    p = [contrast(outcomes, "gain/true", {name: 1, "s3": -1}).p for name in ("s0", "s1", "s2")]
    assert [one["p"] for one in against] == p
    assert [one["p_holm"] for one in against] == holm(p)
    assert settings_table(outcomes, ["gain/true"])["s1"]["against"] is None


def test_a_setting_without_a_measure_is_left_out_of_it(outcomes: pl.DataFrame) -> None:
    partial = whole({"s1": [0.5, 0.6, 0.7], "s2": [0.4, 0.6, 0.8]})
    both = pl.concat([outcomes, partial.select(outcomes.columns).cast(dict(outcomes.schema))])
    table = settings_table(both, ["gain/true", "train/u_auroc"], "s1")
    assert list(table["s0"]["estimates"]) == ["gain/true"]
    assert list(table["s0"]["against"]) == ["gain/true"]
    assert list(table["s2"]["against"]) == ["gain/true", "train/u_auroc"]


def test_what_is_wrong_is_said(outcomes: pl.DataFrame) -> None:
    with pytest.raises(UnknownNameError, match="gain/true"):
        contrast(outcomes, "gain/tru", {"s0": 1})
    with pytest.raises(UnknownNameError, match="Unknown setting with gain/true, 's9'"):
        contrast(outcomes, "gain/true", {"s9": 1})
    with pytest.raises(UnknownNameError, match="reference"):
        settings_table(outcomes, ["gain/true"], "s9")
    for weights in ({"s0": 0.0}, {"s0": math.nan}, {}):
        with pytest.raises(ConfigError, match="weights"):
            contrast(outcomes, "gain/true", weights)
    with pytest.raises(ConfigError, match=r"one training seed[\s\S]*at least 2"):
        contrast(outcomes.filter(pl.col("seed") == 0), "gain/true", {"s0": 1})
    mine = pl.col("setting") == "s1"
    for broken, problem in (
        (outcomes.filter(~(mine & (pl.col("unit") == "p0003") & (pl.col("seed") == 1))), "finite values for 40 units"),
        (outcomes.filter(~(mine & (pl.col("unit") == "p0003"))), "different prompts"),
        (outcomes.filter(~(mine & (pl.col("seed") == 1))), r"training seeds \[0, 1, 2\], s1 \[0, 2\]"),
        (outcomes.with_columns(pl.when(mine).then(math.nan).otherwise("value").alias("value")), "0 finite values"),
        (outcomes.filter(pl.col("unit") == "p0003"), "single prompt"),
        (pl.concat([outcomes, outcomes]), "finite values"),
    ):
        with pytest.raises(EvaluationError, match=problem):
            contrast(broken, "gain/true", {"s0": 1})
