"""Resident scorers: one load per set and device, one set per device, the least busy device first."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core import resident
from pipeline_lib.core.errors import ConfigError
from pipeline_lib.scoring import engine, open_work
from pipeline_lib.scoring.base import Scorer
from pipeline_lib.scoring.resident import resident_scorers
from tests.pipeline_lib.scoring.test_stage import ingest

Wanted = Mapping[str, Mapping[str, Any]]


@pytest.fixture
def work(tmp_path: Path, mirror: Path) -> Wanted:
    planned = open_work(str(tmp_path), ["clip", "aesthetic"], ingest(tmp_path), str(mirror), "cpu")
    return {item.scorer: item.identity for item in planned}


@pytest.fixture(autouse=True)
def loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, ...]]]:
    """Every load: the scorers' names and the device."""
    seen: list[tuple[str, ...]] = []
    original = engine.load_scorers

    def load(names: list[str], mirror: str, device: str) -> list[Scorer]:
        time.sleep(0.05)
        seen.append((*names, device))
        return original(names, mirror, "cpu")

    monkeypatch.setattr(engine, "load_scorers", load)
    yield seen
    resident.release()


def test_threads_share_one_load(work: Wanted, mirror: Path, loads: list[Any]) -> None:
    with ThreadPoolExecutor(8) as pool:
        sets = list(pool.map(lambda _: resident_scorers(work, str(mirror), "cpu"), range(16)))
    assert loads == [("clip", "aesthetic", "cpu")]
    assert all(scorers is sets[0] for scorers in sets)


def test_another_set_takes_the_place_of_the_last(work: Wanted, mirror: Path, loads: list[Any]) -> None:
    first = resident_scorers(work, str(mirror), "cpu")
    assert [s.name for s in resident_scorers({"clip": work["clip"]}, str(mirror), "cpu")] == ["clip"]
    assert [scorers for _, scorers in resident._resident.values()] != [first]
    assert len(resident._resident) == 1
    assert resident_scorers(work, str(mirror), "cpu") is not first
    assert len(loads) == 3
    resident.release()
    assert not resident._resident


def test_other_weights_than_the_runs_are_refused(work: Wanted, mirror: Path, loads: list[Any]) -> None:
    other = {**work, "aesthetic": {**work["aesthetic"], "weights": "0" * 16}}
    with pytest.raises(ConfigError, match=r"not those of the run: aesthetic\.") as caught:
        resident_scorers(other, str(mirror), "cpu")
    assert "same weights" in caught.value.remedy
    assert not loads and not resident._resident


def test_a_thread_takes_the_device_with_the_fewest_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "devices", lambda: ["cuda:0", "cuda:1"])
    with resident.device_slot() as first, resident.device_slot() as second:
        assert (first, second) == ("cuda:0", "cuda:1")
        with resident.device_slot() as third:
            assert third == "cuda:0"
    with pytest.raises(KeyError), resident.device_slot() as alone:
        assert alone == "cuda:0"
        raise KeyError
    with resident.device_slot() as again:
        assert again == "cuda:0", "a device is free again after an error"


def test_devices_are_the_visible_gpus_or_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch

    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr("pipeline_lib.core.gpus.DEVICES", tmp_path)
    for count, expected in ((0, ["cpu"]), (2, ["cuda:0", "cuda:1"])):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        monkeypatch.setattr(torch.cuda, "is_available", lambda count=count: count > 0)
        assert resident.devices() == expected
