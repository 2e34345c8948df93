"""The definitions of the label steps, read aloud: plain Python over lists of rows, without the library's code."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

Row = dict[str, Any]
"""A pair: pair_id, prompt_id, image_0, image_1, human, user_id, model_0, model_1, split, `d` {scorer: difference}."""
MASK = (1 << 64) - 1


def key(text: str, seed: int, purpose: str) -> int:
    """FNV-1a, then the finaliser of splitmix64, in unbounded integers."""
    value = 0xCBF29CE484222325
    for byte in f"{purpose}:{seed}:{text}".encode():
        value = (value ^ byte) * 0x100000001B3 & MASK
    value = value + 0x9E3779B97F4A7C15 & MASK
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & MASK
    return value ^ value >> 31


def sign(x: float | None) -> int:
    return 0 if x is None else (x > 0) - (x < 0)


def vote(row: Row, who: str, epsilon: float = 0.0) -> int:
    if who == "human":
        return 0 if row["human"] is None else sign(row["human"] - 0.5)
    return 0 if abs(row["d"][who]) <= epsilon else sign(row["d"][who])


def scale(rows: list[Row], who: str) -> float:
    squares = [row["d"][who] ** 2 for row in rows]
    return math.sqrt(sum(squares) / len(squares)) or 1.0


def drawn(rows: list[Row], count: int, seed: int, purpose: str) -> set[str]:
    """The pair ids of the `count` rows with the smallest keys."""
    ids = sorted((row["pair_id"] for row in rows), key=lambda pair: key(pair, seed, purpose))
    return set(ids[:count])


def group(row: Row, by: str, label: str = "target") -> str:
    if by == "models":
        return " against ".join(sorted([row["model_0"], row["model_1"]]))
    if by == "label":
        return "" if row[label] == 0.5 else str(int(row[label] > 0.5))
    return row[{"prompt": "prompt_id", "user": "user_id"}[by]] or ""


def platt(x: list[float], z: list[float]) -> Callable[[float], float]:
    n = len(x)
    wanted = [0.5 + (label - 0.5) * n / (n + 2) for label in z]

    def loss(slope: float) -> float:
        return sum(
            math.log1p(math.exp(-abs(slope * a))) + max(slope * a, 0) - t * slope * a
            for a, t in zip(x, wanted, strict=True)
        )

    low, high = -60.0, 60.0
    for _ in range(300):
        first, second = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, second) if loss(first) < loss(second) else (first, high)
    return lambda a: 1 / (1 + math.exp(-(low + high) / 2 * a))


def isotonic(x: list[float], z: list[float]) -> Callable[[float], float]:
    """Pool adjacent violators over (x, z) and (-x, 1 - z)."""
    n, at = len(x), {}
    for a, label in [*zip(x, z, strict=True), *((-a, 1 - label) for a, label in zip(x, z, strict=True))]:
        at.setdefault(a + 0.0, []).append(label)
    blocks = [[[a], sum(labels), len(labels)] for a, labels in sorted(at.items())]
    i = 0
    while i + 1 < len(blocks):
        if blocks[i][1] / blocks[i][2] >= blocks[i + 1][1] / blocks[i + 1][2]:
            after = blocks.pop(i + 1)
            blocks[i] = [blocks[i][0] + after[0], blocks[i][1] + after[1], blocks[i][2] + after[2]]
            i = max(i - 1, 0)
        else:
            i += 1
    points = [(a, 0.5 + (total / count - 0.5) * n / (n + 2)) for xs, total, count in blocks for a in xs]

    def value(a: float) -> float:
        if a <= points[0][0]:
            return points[0][1]
        for (left, low), (right, high) in pairwise(points):
            if a <= right:
                return low + (high - low) * (a - left) / (right - left)
        return points[-1][1]

    return value


def calibrated(rows: list[Row], evidence: list[float], how: str, folds: int, seed: int) -> list[float]:
    fold = [key(row["prompt_id"], seed, "folds") % folds for row in rows]
    out = []
    for mine, x in zip(fold, evidence, strict=True):
        others = [i for i, other in enumerate(fold) if other != mine and rows[i]["human"] is not None]
        fit = {"platt": platt, "isotonic": isotonic}[how]
        out.append(fit([evidence[i] for i in others], [rows[i]["human"] for i in others])(x))
    return out


def decide(rows: list[Row], value: Callable[[Row], float], source: str) -> list[Row]:
    for row in rows:
        if sign(value(row)):
            row.update(target=float(value(row) > 0), is_human=False, source=source)
    return [row for row in rows if row["target"] is not None]


def run(
    rows: list[Row], steps: list[tuple[str, dict[str, Any]]], scorers: list[str]
) -> tuple[list[Row], Counter[str]]:
    """(labelled rows, how many were dropped under `<n>.<step>:<reason>`)."""
    dropped: Counter[str] = Counter()
    fresh = {"target": None, "is_human": False, "g_hat": None, "vote_sum": None, "flipped": False, "weight": 1.0}
    rows = [{**row, **fresh, "d": dict(row["d"]), "source": "", "sure": None} for row in rows]
    for scorer in scorers:
        kept = [row for row in rows if row["d"][scorer] is not None]
        dropped[f"0.scores:unscored-{scorer}"] += len(rows) - len(kept)
        rows = kept
    for i, (name, given) in enumerate(steps, start=1):
        before = len(rows)
        rows, reasons = STEPS[name](rows, **given)
        if isinstance(reasons, str):
            reasons = {reasons: before - len(rows)}
        dropped.update({f"{i}.{name}:{reason}": n for reason, n in reasons.items()})
    return rows, +dropped


def filter_(rows, drop=(), models=(), users=(), splits=(), margin=None, agreement=0.0, among=()):  # type: ignore[no-untyped-def]
    def agreed(row: Row) -> bool:
        votes = [v for v in (vote(row, who) for who in among) if v]
        return bool(votes) and max(votes.count(1), votes.count(-1)) / len(votes) >= agreement

    tests: dict[str, Callable[[Row], bool]] = {}
    if "ties" in drop:
        tests["ties"] = lambda row: row["human"] != 0.5
    if "unlabelled" in drop:
        tests["unlabelled"] = lambda row: row["human"] is not None
    if models:
        tests["models"] = lambda row: row["model_0"] in models and row["model_1"] in models
    if users:
        tests["users"] = lambda row: row["user_id"] in users
    if splits:
        tests["splits"] = lambda row: row["split"] in splits
    for scorer, least in (margin or {}).items():
        tests[f"margin-{scorer}"] = lambda row, scorer=scorer, least=least: abs(row["d"][scorer]) >= least
    if among:
        tests["agreement"] = agreed
    reasons = {}
    for reason, passes in tests.items():
        kept = [row for row in rows if passes(row)]
        reasons[reason], rows = len(rows) - len(kept), kept
    return rows, reasons


def single(rows, annotator):  # type: ignore[no-untyped-def]
    if annotator != "human":
        return decide(rows, lambda row: row["d"][annotator], annotator), "equal-scores"
    for row in rows:
        row.update(target=row["human"], is_human=True, source="human")
    return [row for row in rows if row["human"] is not None], "unlabelled"


def vote_(rows, voters, ties="human", weights=None, epsilon=None):  # type: ignore[no-untyped-def]
    weights, epsilon = weights or {}, epsilon or {}
    scales = {who: scale(rows, who) for who in voters if who != "human"}
    for row in rows:
        total = sum(weights.get(who, 1) * vote(row, who, epsilon.get(who, 0.0)) for who in voters)
        winner, source, by_human = sign(total), "vote", False
        if total == 0:
            source = f"tie-{ties.split(':')[0]}"
            if ties == "human":
                winner, by_human = vote(row, "human"), True
            elif ties.startswith("prior:"):
                winner = vote(row, ties.split(":")[1])
            elif ties == "margin":
                margins = [row["d"][who] / scales[who] for who in scales]
                winner = sign(max([*margins, 0]) + min([*margins, 0]))
        row["vote_sum"] = total
        row["sure"] = (1 + abs(total) / sum(weights.get(who, 1) for who in voters)) / 2
        if winner:
            row.update(target=float(winner > 0), is_human=by_human, source=source)
    return [row for row in rows if row["target"] is not None], "tied"


def aggregate(rows, of, how="normalised_sum", seed=0):  # type: ignore[no-untyped-def]
    scales = {who: scale(rows, who) if how == "normalised_sum" else 1.0 for who in of}

    def value(row: Row) -> float:
        if how == "random":
            return float(row["d"][of[key(row["pair_id"], seed, "aggregate") % len(of)]])
        return float(sum(row["d"][who] / scales[who] for who in of))

    return decide(rows, value, f"aggregate-{how}"), "equal-scores"


def soft(rows, from_, calibrate="platt", folds=5, seed=0, scale_=1.0):  # type: ignore[no-untyped-def]
    scales = {who: scale(rows, who) for who in from_}
    evidence = [sum(row["d"][who] / scales[who] for who in from_) / len(from_) for row in rows]
    if calibrate == "logit":
        found = [1 / (1 + math.exp(-scale_ * row["d"][from_[0]])) for row in rows]
    else:
        found = calibrated(rows, evidence, calibrate, folds, seed)
    for row, p in zip(rows, found, strict=True):
        row.update(target=p, source="soft")
    return rows, {}


def reveal(rows, fraction, seed=0):  # type: ignore[no-untyped-def]
    labelled = [row for row in rows if row["human"] is not None]
    shown = drawn(labelled, round(fraction * len(labelled)), seed, "reveal")
    for row in rows:
        row["human"] = row["human"] if row["pair_id"] in shown else None
    return rows, {}


def pseudo_label(rows, from_, calibrate="platt", folds=5, seed=0):  # type: ignore[no-untyped-def]
    if len(from_) == 1:
        evidence = [row["d"][from_[0]] / scale(rows, from_[0]) for row in rows]
    else:
        evidence = [sum(vote(row, who) for who in from_) / len(from_) for row in rows]
    if calibrate == "none":
        found = [(sign(x) + 1) / 2 for x in evidence]
    else:
        found = calibrated(rows, evidence, calibrate, folds, seed)
    for row, p in zip(rows, found, strict=True):
        row["g_hat"] = p
    return rows, {}


def oracle(rows, accuracy, seed=0, calibrated=False):  # type: ignore[no-untyped-def]
    kept = [row for row in rows if row["human"] is not None]
    decided = [row for row in kept if row["human"] != 0.5]
    right = drawn(decided, round(accuracy * len(decided)), seed, "oracle")
    for row in kept:
        row["g_hat"] = 0.5
        if row["human"] != 0.5:
            first = (row["human"] == 1) == (row["pair_id"] in right)
            sure = accuracy if calibrated else 1.0
            row["g_hat"] = sure if first else 1 - sure
    return kept, "unlabelled"


def dedpo(rows):  # type: ignore[no-untyped-def]
    for row in rows:
        known = row["human"] is not None
        row.update(target=row["human"] if known else row["g_hat"], is_human=known)
        row["source"] = "human" if known else "g_hat"
    return rows, {}


def mix(rows):  # type: ignore[no-untyped-def]
    rows, _ = dedpo(rows)
    kept = [row for row in rows if row["is_human"] or row["g_hat"] != 0.5]
    for row in kept:
        row["target"] = row["human"] if row["is_human"] else float(row["g_hat"] > 0.5)
    return kept, "undecided"


def flip(rows, rate, seed=0, stratify=""):  # type: ignore[no-untyped-def]
    early = all(row["target"] is None for row in rows)
    column = "human" if early else "target"
    among = [row for row in rows if row[column] is not None and row[column] != 0.5]
    count = round(rate * len(among))
    chosen = drawn(among, count, seed, "flip")
    if stratify:
        line = sorted(
            among,
            key=lambda row: (
                key(group(row, stratify, column), seed, "flip-strata"),
                key(row["pair_id"], seed, "flip"),
            ),
        )
        n = len(line)
        chosen = {row["pair_id"] for i, row in enumerate(line) if (i + 1) * count // n > i * count // n}
    for row in rows:
        if row["pair_id"] in chosen:
            row["flipped"] = not row["flipped"]
            row[column] = 1 - row[column]
            if row["is_human"]:
                row["human"] = row["target"]
    return rows, {}


def weight(rows, by, normalise=False):  # type: ignore[no-untyped-def]
    prompts = Counter(row["prompt_id"] for row in rows)
    for row in rows:
        sure = max(row["target"], 1 - row["target"]) if row["sure"] is None else row["sure"]
        row["weight"] *= 1 / prompts[row["prompt_id"]] if by == "prompt" else sure
    mean = sum(row["weight"] for row in rows) / len(rows)
    for row in rows:
        row["weight"] /= mean if normalise else 1
    return rows, {}


def balance(rows, by, at_most=0, seed=0):  # type: ignore[no-untyped-def]
    members: dict[str, list[Row]] = {}
    for row in rows:
        members.setdefault(group(row, by), []).append(row)
    ties = members.pop("", []) if by == "label" else []
    most = at_most or min((len(found) for found in members.values()), default=0)
    if by == "label" and len(members) == 1 and not at_most:
        most = 0
    kept = {row["pair_id"] for row in ties}
    for found in members.values():
        kept |= drawn(found, most, seed, "balance")
    return [row for row in rows if row["pair_id"] in kept], "surplus"


def subsample(rows, fraction=1.0, pairs=0, seed=0):  # type: ignore[no-untyped-def]
    kept = drawn(rows, pairs or round(fraction * len(rows)), seed, "subsample")
    return [row for row in rows if row["pair_id"] in kept], "not-drawn"


def split(rows, fold, folds=5, keep="others", seed=0):  # type: ignore[no-untyped-def]
    mine = [key(row["prompt_id"], seed, "folds") % folds == fold for row in rows]
    kept = [row for row, here in zip(rows, mine, strict=True) if here == (keep == "fold")]
    return kept, "other-fold" if keep == "fold" else "held-out"


STEPS: dict[str, Callable[..., tuple[list[Row], Any]]] = {
    "filter": filter_,
    "single": single,
    "vote": vote_,
    "aggregate": aggregate,
    "soft": soft,
    "reveal": reveal,
    "pseudo_label": pseudo_label,
    "oracle": oracle,
    "dedpo": dedpo,
    "mix": mix,
    "flip": flip,
    "weight": weight,
    "balance": balance,
    "subsample": subsample,
    "split": split,
}
