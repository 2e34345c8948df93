"""Step filter: keep the pairs that say what is asked of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import polars as pl

from pipeline_lib.core.errors import LabelError
from pipeline_lib.labels.steps import HUMAN, Dropped, Step, listed, one_of
from pipeline_lib.labels.table import vote_of

KINDS = {"ties": "human ties", "unlabelled": "pairs without a human label"}


@dataclass(frozen=True)
class Filter(Step):
    """Keep pairs that pass every test given.

    `drop`: neither a human tie (`ties`) nor without human label (`unlabelled`). `models`: both images by these
    generators. `users`: judged by one of them. `splits`: of one of them. `margin`: scorer -> least size of its score
    difference. `agreement`: least share of the deciding annotators among `among` that are with their majority, in
    (0, 1]; pairs on which nobody decides fail.
    """

    name: ClassVar[str] = "filter"
    main: ClassVar[str] = "drop"
    drop: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    margin: Mapping[str, float] = field(default_factory=dict)
    agreement: float = 0.0
    among: tuple[str, ...] = ()

    def scorers(self) -> list[str]:
        return [*self.margin, *(name for name in self.among if name != HUMAN)]

    def columns(self) -> list[str]:
        read = {"model_0": self.models, "model_1": self.models, "user_id": self.users, "split": self.splits}
        return [column for column, wanted in read.items() if wanted]

    def check(self) -> None:
        one_of("kind to drop", self.drop, list(KINDS))
        if not any((self.drop, self.models, self.users, self.splits, self.margin, self.agreement, self.among)):
            raise LabelError("it filters nothing.", "Say what to drop, such as {filter: [ties, unlabelled]}.")
        if bad := [f"{name}: {value:g}" for name, value in self.margin.items() if not value > 0]:
            raise LabelError(f"margin={{{bad[0]}}} is not above 0.", "Give the least score difference to keep.")
        if not 0 <= self.agreement <= 1:
            raise LabelError(f"agreement={self.agreement:g} is not in (0, 1].", "Give a share, such as 0.75.")
        if bool(self.agreement) != bool(self.among):
            raise LabelError(
                "agreement and among belong together.",
                "Write for example {filter: {agreement: 0.75, among: [human, clip, hpsv2]}}.",
            )

    def words(self) -> str:
        dropped = [f"Drop {listed([KINDS[kind] for kind in self.drop])}."] if self.drop else []
        kept = [
            f"both images by {listed(self.models)}" if self.models else "",
            f"judged by {listed(self.users)}" if self.users else "",
            f"of split {listed(self.splits)}" if self.splits else "",
            *(f"with a {name} difference of {value:g} or more" for name, value in self.margin.items()),
            f"on which {self.agreement:.0%} of {listed(self.among)} agree" if self.among else "",
        ]
        keep = listed([words for words in kept if words])
        return " ".join([*dropped, *([f"Keep pairs {keep}."] if any(kept) else [])])

    def run(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, Dropped]:
        """The tests in the order of the fields; a pair counts under the first that it fails."""
        tests = frame.select(passes.fill_null(False).alias(reason) for reason, passes in self._tests().items())
        dropped, kept = {}, pl.repeat(True, len(frame), eager=True)
        for passes in tests:
            dropped[passes.name] = int((kept & ~passes).sum())
            kept &= passes
        return frame.filter(kept), dropped

    def _tests(self) -> dict[str, pl.Expr]:
        kinds = {"ties": (pl.col("human") != 0.5).fill_null(True), "unlabelled": pl.col("human").is_not_null()}
        tests = {kind: kinds[kind] for kind in self.drop}
        if self.models:
            tests["models"] = pl.col("model_0").is_in(self.models) & pl.col("model_1").is_in(self.models)
        if self.users:
            tests["users"] = pl.col("user_id").is_in(self.users)
        if self.splits:
            tests["splits"] = pl.col("split").is_in(self.splits)
        for scorer, least in self.margin.items():
            tests[f"margin-{scorer}"] = pl.col(f"d_{scorer}").abs() >= least
        if self.among:
            votes = [vote_of(name).cast(pl.Int32) for name in self.among]
            size, decided = pl.sum_horizontal(votes).abs(), pl.sum_horizontal(vote.abs() for vote in votes)
            # (decided + |sum|) / 2 voters are with the majority.
            tests["agreement"] = (decided > 0) & (decided + size >= 2 * self.agreement * decided - 1e-9)
        return tests
