"""Which rows a report shows, and that each is shown once."""

import numpy as np
import pyarrow as pa

from pipeline_lib.core.store import Dataset, writer
from pipeline_lib.evaluation.examples import BEST, SAMPLE, WORST, Example, Scored, choose

PROMPTS = 40


def keys(seeds: int) -> list[tuple[str, int]]:
    return [(f"{(7 * i) % PROMPTS:02d}", seed) for i in range(PROMPTS) for seed in range(seeds)]


def images(store: str, rows: list[tuple[str, int]], model: str) -> Dataset:
    table = {"prompt_id": [k for k, _ in rows], "seed": [s for _, s in rows], "prompt": [f"p{k}" for k, _ in rows]}
    table["image"] = [f"{model}-{k}-{s}".encode() for k, s in rows]
    w = writer(store, "images", 1, {"model": model})
    return w.commit([w.write_table("part-00000.parquet", pa.table(table))])


def chosen(store: str, seeds: int, gain: np.ndarray, count: int) -> list[Example]:
    rows = keys(seeds)
    ours = Scored("ours", images(store, rows, "ours"), {"clip": gain})
    theirs = Scored("base", images(store, rows, "base"), {"clip": np.zeros(len(rows))})
    return choose(ours, theirs, rows, count, {f"{i:02d}": "even" if i % 2 == 0 else "odd" for i in range(PROMPTS)})


def test_views_hold_the_ends_and_a_sample_that_ignores_the_scores(tmp_path) -> None:
    gain = np.random.default_rng(0).normal(size=2 * PROMPTS)
    found = chosen(str(tmp_path), 2, gain, 5)
    views = {view: [e for e in found if view in e.views] for view in (SAMPLE, WORST, BEST)}
    scale = np.std(gain)
    assert sorted(e.gain for e in views[WORST]) == sorted(gain / scale)[:5]
    assert sorted(e.gain for e in views[BEST]) == sorted(gain / scale)[-5:]
    assert [(e.prompt, e.seed) for e in views[SAMPLE]] == [(f"p{i:02d}", 0) for i in range(10)]
    assert found[:10] == views[SAMPLE] and len({(e.prompt, e.seed) for e in found}) == len(found)
    shuffled = chosen(str(tmp_path), 2, np.roll(gain, 11), 5)
    assert [(e.prompt, e.seed) for e in shuffled[:10]] == [(e.prompt, e.seed) for e in found[:10]]
    assert all(e.category == ("even" if int(e.prompt[1:]) % 2 == 0 else "odd") for e in found)
    assert all(e.challenger.image == f"ours-{e.prompt[1:]}-{e.seed}".encode() for e in found)
    assert all(e.reference.image == f"base-{e.prompt[1:]}-{e.seed}".encode() for e in found)


def test_no_regression_where_nothing_got_worse(tmp_path) -> None:
    found = chosen(str(tmp_path), 1, np.arange(PROMPTS, dtype=float), 30)
    assert not any(WORST in e.views for e in found) and len(found) == PROMPTS
    assert sum(BEST in e.views for e in found) == 30
