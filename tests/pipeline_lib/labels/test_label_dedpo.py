"""reveal, pseudo_label, dedpo, mix and flip."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.core.errors import LabelError
from pipeline_lib.labels.calibration import cross_fitted, platt_slope, sigmoid
from pipeline_lib.labels.chance import keys, share
from tests.pipeline_lib.labels.tables import frame, label, random_frame

REVEAL = {"reveal": 0.25, "seed": 7}


def test_keys_are_pinned() -> None:
    """The choices of a seed are part of a dataset's identity: they must not change with a library version."""
    ids = pl.Series(["0123456789abcdef", "p"])
    assert keys(ids, 7, "flip").tolist() == [11341426143431687575, 9237406399081012797]
    assert keys(ids.reverse(), 7, "flip").tolist() == [9237406399081012797, 11341426143431687575]
    assert keys(ids.tail(1), 7, "flip").tolist() == [9237406399081012797]
    assert not set(keys(ids, 8, "flip")) & set(keys(ids, 7, "flip"))
    assert not set(keys(ids, 7, "reveal")) & set(keys(ids, 7, "flip"))


def test_keys_are_uniform() -> None:
    values = keys(pl.Series([f"{i:016x}" for i in range(20_000)]), 0, "test")
    share_of_bins = np.bincount((values >> np.uint64(60)).astype(int), minlength=16) / 20_000
    assert np.abs(share_of_bins - 1 / 16).max() < 0.006
    assert abs(np.mean(values & np.uint64(1)) - 0.5) < 0.015


def test_share_is_exact_nested_and_independent_of_order() -> None:
    ids = pl.Series([f"pair {i}" for i in range(101)])
    among = np.arange(101) % 2 == 0
    small, large = (share(ids, among, fraction, 5, "flip") for fraction in (0.1, 0.3))
    assert (small.sum(), large.sum()) == (5, 15)
    assert not (small & ~large).any()
    assert not (large & ~among).any()
    order = np.random.default_rng(0).permutation(101)
    assert (share(ids[order], among[order], 0.3, 5, "flip") == large[order]).all()
    assert (share(ids, among, 0.3, 6, "flip") != large).any()


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.2, 0.3, 1.0])
def test_flip_inverts_exactly_the_share_and_marks_it(rate: float) -> None:
    table = random_frame(1000)
    clean, _ = label(table, "human")
    noisy, counts = label(table, [{"single": "human"}, {"flip": rate, "seed": 7}])
    wrong = clean["target"] != noisy["target"]
    assert wrong.sum() == counts["flipped"] == round(1000 * rate)
    assert (wrong == noisy["flipped"]).all()
    assert (noisy["human"] == noisy["target"]).all()
    again, _ = label(table.reverse(), [{"single": "human"}, {"flip": rate, "seed": 7}])
    assert set(again.filter("flipped")["pair_id"]) == set(noisy.filter("flipped")["pair_id"])


def test_flip_after_dedpo_reaches_the_human_labels_the_loss_reads() -> None:
    table = random_frame(400, clip=0.5)
    clean, _ = label(table, [REVEAL, {"pseudo_label": "clip"}, "dedpo"])
    noisy, _ = label(table, [REVEAL, {"pseudo_label": "clip"}, "dedpo", {"flip": 0.5, "seed": 2}])
    known = noisy.filter("is_human")
    assert (known["human"] == known["target"]).all()
    changed = known["human"] != clean.filter("is_human")["human"]
    assert (changed == known["flipped"]).all() and 30 < changed.sum() < 70
    assert (noisy["g_hat"] == clean["g_hat"]).all()
    voted, _ = label(table, [{"vote": ["clip"]}, {"flip": 1.0}])
    assert voted["human"].to_list() == [table["human"][i] for i in voted["i"]]


def test_flips_leave_ties_alone() -> None:
    labels, counts = label(frame([0.5, 1.0, 0.0]), [{"single": "human"}, {"flip": 1.0}])
    assert labels["target"].to_list() == [0.5, 0.0, 1.0]
    assert labels["flipped"].to_list() == [False, True, True]
    assert counts["flipped"] == 2


def test_flip_before_the_target_makes_the_annotator_noisy() -> None:
    table = random_frame(100, clip=1.0)
    labels, _ = label(table, [{"flip": 0.5, "seed": 1}, {"vote": ["clip", "human"], "ties": "human"}])
    changed = labels["human"] != table["human"]
    assert (changed == labels["flipped"]).all() and changed.sum() == 50
    assert (labels["vote_human"] == (labels["human"] * 2 - 1).cast(pl.Int8)).all()


def test_dedpo_columns() -> None:
    table = random_frame(400, clip=0.5)
    labels, counts = label(table, [REVEAL, {"pseudo_label": "clip"}, "dedpo"])
    assert counts["human"] == 100 and counts["kept"] == 400
    human, rest = labels.filter("is_human"), labels.filter(~pl.col("is_human"))
    assert (human["target"] == human["human"]).all()
    assert human["human"].to_list() == [table["human"][i] for i in human["i"]]
    assert (rest["target"] == rest["g_hat"]).all()
    assert rest["human"].null_count() == 300
    assert labels["g_hat"].null_count() == 0 and labels["g_hat"].is_between(0, 1).all()
    assert (set(human["source"]), set(rest["source"])) == ({"human"}, {"g_hat"})
    assert ((labels["g_hat"] > 0.5).to_numpy() == (table["d_clip"].to_numpy() > 0)).all()


def test_mix_hardens_what_is_not_human() -> None:
    undecided = pl.arange(400) % 10 == 0
    table = random_frame(400, clip=0.5).with_columns(pl.when(undecided).then(0.0).otherwise("d_clip").alias("d_clip"))
    labels, counts = label(table, [{"reveal": 0.25, "seed": 3}, {"pseudo_label": "clip"}, "mix"])
    assert set(labels["target"]) == {0.0, 1.0}
    assert labels["g_hat"].is_between(0, 1).all()
    rest = labels.filter(~pl.col("is_human"))
    assert ((rest["g_hat"] > 0.5) == (rest["target"] == 1.0)).all()
    shown = labels.filter(pl.col("is_human"))
    assert (shown["target"] == shown["human"]).all() and len(shown) == 100
    lost = set(range(400)) - set(labels["i"])
    assert lost and all(i % 10 == 0 for i in lost)
    assert counts["dropped:3.mix:undecided"] == len(lost)


def test_vote_of_scorers_as_annotator_without_calibration() -> None:
    table = frame([1.0, 0.0, 1.0], a=[1, -1, 1], b=[2, -2, -1])
    labels, _ = label(table, [{"pseudo_label": ["a", "b"], "calibrate": "none"}, "dedpo"])
    assert labels["g_hat"].to_list() == [1.0, 0.0, 0.5]


def test_no_pair_is_calibrated_with_its_own_prompts_labels() -> None:
    """Changing the labels of one prompt changes g_hat of other prompts and never of its own."""
    table = random_frame(300, clip=1.0)
    recipe = [{"pseudo_label": "clip"}, "dedpo"]
    before, _ = label(table, recipe)
    for prompt in table["prompt_id"].unique(maintain_order=True)[:10]:
        mine = pl.col("prompt_id") == prompt
        changed = table.with_columns(pl.when(mine).then(1 - pl.col("human")).otherwise("human").alias("human"))
        after, _ = label(changed, recipe)
        own = table["prompt_id"] == prompt
        assert (after.filter(own)["g_hat"] == before.filter(own)["g_hat"]).all()
        assert (after.filter(~own)["g_hat"] != before.filter(~own)["g_hat"]).any()


def test_labelled_and_unlabelled_pairs_of_a_fold_share_an_annotator() -> None:
    """Within a prompt g_hat is one function of the evidence, whether or not the pair's own label is revealed."""
    n = 200
    table = frame([float(i % 3 > 0) for i in range(n)], [f"p{i // 10}" for i in range(n)], clip=[1.0] * n)
    labels, _ = label(table, [{"reveal": 0.5}, {"pseudo_label": "clip"}, "dedpo"])
    assert labels.group_by("prompt_id").agg(pl.col("g_hat").n_unique(), pl.col("is_human").n_unique()).select(
        pl.col("g_hat").max(), pl.col("is_human").max()
    ).row(0) == (1, 2)


def test_platt_finds_the_slope_that_made_the_labels() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=20_000)
    z = (rng.random(20_000) < sigmoid(1.7 * x)).astype(float)
    assert platt_slope(x, z) == pytest.approx(1.7, abs=0.08)
    assert platt_slope(-x, z) == pytest.approx(-1.7, abs=0.08)
    assert platt_slope(x * 1e3, z) == pytest.approx(1.7e-3, abs=8e-5)


def test_platt_is_finite_and_sane_at_the_edges() -> None:
    ones = np.ones(8)
    assert sigmoid(np.array([platt_slope(ones, ones)]))[0] == pytest.approx(9 / 10)  # (n + 1) / (n + 2)
    assert platt_slope(np.zeros(5), np.ones(5)) == 0
    assert platt_slope(ones, np.full(8, 0.5)) == 0
    heavy = np.array([1e-3] * 50 + [1e3])
    slope = platt_slope(heavy, np.ones(51))
    assert np.isfinite(slope) and slope > 0


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=30),
)
def test_platt_slope_maximises_the_likelihood(rows: list[tuple[float, float]]) -> None:
    x, z = np.array([x for x, _ in rows]), np.array([z for _, z in rows])
    x = x / (np.sqrt(np.mean(x**2)) or 1.0)
    target = 0.5 + (z - 0.5) * len(x) / (len(x) + 2)

    def loss(slope: float) -> float:
        return float(np.sum(np.logaddexp(0, slope * x) - target * slope * x))

    slope = platt_slope(x, z)
    assert np.isfinite(slope)
    assert all(loss(slope) <= loss(slope + offset) + 1e-9 for offset in (-10, -0.1, -1e-3, 1e-3, 0.1, 10))


def test_cross_fitting_is_calibrated_on_noise() -> None:
    """Evidence that means nothing gets g_hat near 0.5 rather than the labels it was fitted on."""
    rng = np.random.default_rng(1)
    x, z = rng.normal(size=4000), rng.integers(0, 2, 4000).astype(float)
    g = cross_fitted(x, z, pl.Series([f"g{i}" for i in range(4000)]), 5, 0)
    assert np.abs(g - 0.5).mean() < 0.03


def test_dedpo_estimate_is_unbiased_and_the_naive_mix_is_not() -> None:
    """Mean logistic loss of a fixed model: DeDPO's estimate against the loss on all human labels."""
    n, runs = 600, 60
    table = random_frame(n, clip=0.3).with_columns(-pl.col("d_clip") * 0.5)  # an annotator that is usually wrong
    logit = np.random.default_rng(5).normal(size=n) + table["human"].to_numpy() - 0.5

    def loss(target: np.ndarray) -> np.ndarray:
        return np.logaddexp(0, logit) - target * logit

    full = loss(table["human"].to_numpy()).mean()
    debiased, naive = [], []
    for seed in range(runs):
        labels, _ = label(
            table, [{"reveal": 0.25, "seed": seed}, {"pseudo_label": "clip", "calibrate": "none"}, "dedpo"]
        )
        g, target, known = (labels[name].to_numpy() for name in ("g_hat", "target", "is_human"))
        debiased.append(loss(g).mean() + (loss(target) - loss(g))[known].mean())
        naive.append(loss(target).mean())
    error = np.std(debiased) / np.sqrt(runs)
    assert abs(np.mean(debiased) - full) < 3 * error
    assert abs(np.mean(naive) - full) > 10 * error


def test_too_few_labels_to_cross_fit_is_an_error() -> None:
    table = frame([1.0, None, None], ["p", "q", "r"], clip=[1, 1, 1])
    with pytest.raises(LabelError, match="no revealed human label outside fold"):
        label(table, [{"pseudo_label": "clip"}, "dedpo"])


def test_dedpo_without_labels_is_an_error() -> None:
    table = frame([None, None], clip=[1, 1])
    with pytest.raises(LabelError, match="none of the 2 pairs has a revealed human label"):
        label(table, [{"pseudo_label": "clip", "calibrate": "none"}, "dedpo"])
