"""The benchmark's small models divide the work as the real ones do."""

from __future__ import annotations

import pytest

from tests.bench import train_models


@pytest.mark.slow
@pytest.mark.parametrize("family", train_models.REAL)
def test_small_models_keep_the_proportions_of_the_real_ones(family: str) -> None:
    real, small = (
        train_models.shares(train_models.forward_flops(size[family])) for size in train_models.SIZES.values()
    )
    for part in ("vae", "text", "unet"):
        assert small[part] == pytest.approx(real[part], rel=0.2)
