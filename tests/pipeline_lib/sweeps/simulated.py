"""Sweeps with known effects: settings by prompts by seeds, with what each of them adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from pipeline_lib.evaluation.statistics import Floats
from pipeline_lib.sweeps.values import Values


@dataclass(frozen=True)
class World:
    """Standard deviations of what is added to a setting's mean; `of_seed` may differ between settings."""

    settings: int = 5
    prompts: int = 256
    seeds: int = 3
    prompt: float = 0.3
    """A prompt to all settings alike."""
    own_prompt: float = 0.3
    """A prompt to one setting."""
    seed: float = 0.0
    """A seed to all settings alike."""
    own_seed: float = 0.02
    """A seed to one setting."""
    rest: float = 0.4
    uneven: Sequence[float] = ()
    """Factors of `own_seed` for the first settings."""

    @property
    def names(self) -> list[str]:
        """s0, s1, ..."""
        return [f"s{k}" for k in range(self.settings)]

    def draw(self, rng: np.random.Generator, means: Mapping[str, float] | None = None) -> Floats:
        """Values (settings, prompts, seeds) with these means (0 for a setting that is not named)."""
        k, p, s = self.settings, self.prompts, self.seeds
        factors = np.ones(k)
        factors[: len(self.uneven)] = self.uneven
        return (
            np.array([(means or {}).get(name, 0.0) for name in self.names])[:, None, None]
            + rng.normal(0, self.prompt, (1, p, 1))
            + rng.normal(0, self.own_prompt, (k, p, 1))
            + rng.normal(0, self.seed, (1, 1, s))
            + rng.normal(0, self.own_seed, (k, 1, s)) * factors[:, None, None]
            + rng.normal(0, self.rest, (k, p, s))
        )

    def values(self, drawn: Floats) -> dict[str, Values]:
        """As `estimates.estimate` takes them."""
        units, seeds = tuple(f"p{i:04}" for i in range(self.prompts)), tuple(range(self.seeds))
        return {name: Values(units, seeds, one) for name, one in zip(self.names, drawn, strict=True)}

    def frame(self, drawn: Floats, measure: str = "gain/true") -> pl.DataFrame:
        """As a sweep's outcomes.parquet has them."""
        k, p, s = drawn.shape
        names = np.repeat(self.names, p * s)
        return pl.DataFrame(
            {
                "setting": names,
                "seed": np.tile(np.arange(s), k * p),
                "measure": [measure] * len(names),
                "unit": np.tile(np.repeat([f"p{i:04}" for i in range(p)], s), k),
                "value": drawn.ravel().astype(np.float32),
            }
        ).sort("setting", "seed", "measure", "unit")
