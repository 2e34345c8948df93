"""A disk of checkpoints that is full: the flow's process gets the typed error, and a later run the same bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline_lib.core.config import TrainConfig
from pipeline_lib.core.disk import PAGE
from pipeline_lib.core.errors import DiskFullError
from pipeline_lib.core.store import Dataset
from pipeline_lib.training.__main__ import RESERVE
from pipeline_lib.training.launch import job
from pipeline_lib.training.mapped import new_array
from tests.pipeline_lib.full_disk import small_disk
from tests.pipeline_lib.models import tiny

CONFIG = TrainConfig(method="diffusion-dpo", steps=6, batch_size=4, adapter="full", beta=100.0, checkpoint_every=2)


def test_an_array_that_does_not_fit_is_refused_before_it_is_written(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        with pytest.raises(DiskFullError, match=r"2\.1 MB were to be written"):
            new_array(disk.folder / "large.npy", np.float16, (1 << 20,))
        assert not list(disk.folder.iterdir())
        new_array(disk.folder / "small.npy", np.float16, (1 << 18,))[:] = 1
        assert (np.load(disk.folder / "small.npy") == 1).all()


@pytest.mark.parametrize(
    ("pages", "room", "where", "saved"),  # the code takes two, specification and status one each
    [
        pytest.param(8, 1.5, "/checkpoints:", ["step-000002"], id="checkpoint"),
        pytest.param(2, 0, ":", [], id="status", marks=pytest.mark.slow),
        pytest.param(4, 0, "/cache/", [], id="latents", marks=pytest.mark.slow),
        pytest.param(6, 0, ":", [], id="metrics", marks=pytest.mark.slow),
    ],
)
def test_training_on_a_full_disk_goes_on_when_there_is_space(
    pages: int,
    room: float,
    where: str,
    saved: list[str],
    tmp_path: Path,
    mirror: Path,
    encoded: dict[str, Dataset],
    labels: dict[str, Dataset],
) -> None:
    base = tiny.base(mirror, "v")
    weights = (mirror / "tiny/v/unet/diffusion_pytorch_model.safetensors").stat().st_size

    def train(name: str, scratch: Path, config: TrainConfig = CONFIG) -> Dataset:
        return job.train(str(tmp_path / name), base, config, encoded["v"], labels["human"], scratch)

    whole = train("whole", tmp_path / "scratch")
    with small_disk(tmp_path / "disk", 64 << 20) as disk:
        # The optimizer keeps two values beside each weight.
        disk.fill(left=RESERVE + pages * PAGE + int(room * 3 * weights))
        with pytest.raises(DiskFullError) as caught:
            train("cut", disk.folder)
        (run_dir,) = (path.parent for path in disk.folder.glob("*/spec.json"))
        assert f"disk of {run_dir}{where}" in caught.value.problem and "Make space" in caught.value.remedy
        assert sorted(path.name for path in run_dir.glob("checkpoints/*")) == saved
        disk.make_space()
        again = train("cut", disk.folder)
        assert again.digest == whole.digest
        with pytest.raises(DiskFullError):  # not even a folder can be made, or a file be written into it
            disk.resize(4096)
            disk.fill(0)
            train("none", disk.folder, replace(CONFIG, seed=1))
