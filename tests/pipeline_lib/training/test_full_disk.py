"""A disk of checkpoints that is full: the flow's process gets the typed error, and a later run the same bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline_lib.config import TrainConfig
from pipeline_lib.errors import DiskFullError
from pipeline_lib.store import Dataset
from pipeline_lib.training import job
from tests.pipeline_lib.full_disk import small_disk
from tests.pipeline_lib.models import tiny

CONFIG = TrainConfig(method="diffusion-dpo", steps=6, batch_size=4, adapter="full", beta=100.0, checkpoint_every=2)


@pytest.mark.parametrize(
    "left", [pytest.param(200_000, id="checkpoint"), pytest.param(4096, id="metrics", marks=pytest.mark.slow)]
)
def test_training_on_a_full_disk_goes_on_when_there_is_space(
    left: int, tmp_path: Path, mirror: Path, encoded: dict[str, Dataset], labels: dict[str, Dataset]
) -> None:
    base = tiny.base(mirror, "v")

    def train(name: str, scratch: Path, config: TrainConfig = CONFIG) -> Dataset:
        return job.train(str(tmp_path / name), base, config, encoded["v"], labels["human"], scratch)

    whole = train("whole", tmp_path / "scratch")
    with small_disk(tmp_path / "disk", 64 << 20) as disk:

        def fill(record: object) -> None:
            if not (disk.folder / "of-others").exists():
                disk.fill(left)

        with pytest.raises(DiskFullError) as caught:
            job.train(str(tmp_path / "cut"), base, CONFIG, encoded["v"], labels["human"], disk.folder, on_metrics=fill)
        assert str(disk.folder) in caught.value.problem and "Make space" in caught.value.remedy
        disk.make_space()
        again = train("cut", disk.folder)
        assert again.digest == whole.digest
        with pytest.raises(DiskFullError):  # not even a folder can be made, or a file be written into it
            disk.resize(4096)
            disk.fill(0)
            train("none", disk.folder, replace(CONFIG, seed=1))
