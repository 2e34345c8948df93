"""A run that is told where its pairs and weights are does not go to the hub: a server on loopback counts requests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prefect import flow

from flows.align import align
from flows.evaluate import held_out
from pipeline_lib.chain.mirrors import check_prompts
from pipeline_lib.core.errors import ConfigError, HubError
from pipeline_lib.presets import PRESETS, preset
from pipeline_lib.shapes import assets_dir
from tests.pipeline_lib.hub_server import Hub, serve

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("api")]

MIRROR = str(assets_dir() / "hub")


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """What was asked of the hub, which has nothing."""
    (tmp_path / "hub").mkdir()
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with serve(monkeypatch, "nobody/nothing", tmp_path / "hub"):
        yield lambda: [path for _, path, _ in Hub.log]


@flow
def what_is_held_out(source: str | None, weights: str | None, store: str) -> str | None:
    return held_out("sd15", source, weights, store)


@pytest.mark.parametrize(("source", "weights"), [("/data/pairs", None), (None, MIRROR), ("s3://bucket/x", MIRROR)])
def test_with_mirrors_the_presets_held_out_pairs_are_left_out_and_the_log_says_how_to_name_some(
    source: str | None,
    weights: str | None,
    asked: Callable[[], list[str]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert what_is_held_out(source, weights, str(tmp_path)) is None
    assert asked() == []
    said = [record.getMessage() for record in caplog.records if "held-out" in record.getMessage()]
    assert said and "heldout=<URI>" in said[0] and (source or weights or "") in said[0]


def test_without_mirrors_they_are_asked_for(asked: Callable[[], list[str]], tmp_path: Path) -> None:
    with pytest.raises(HubError):
        what_is_held_out(None, "hub", str(tmp_path))
    assert asked()


def test_prompts_that_are_on_the_hub_are_looked_for_before_anything_is_trained(
    asked: Callable[[], list[str]], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"prompts=/path/prompts\.txt"):
        check_prompts("sdxl", None, None, MIRROR)
    check_prompts("sdxl", str(tmp_path / "prompts.txt"), None, MIRROR)
    check_prompts("shapes", None, None, MIRROR)
    assert asked() == []
    with pytest.raises(HubError, match="give a text file of prompts"):
        check_prompts("sdxl", None, None, None)
    assert asked(), "at the start, not after the training"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_whole_chain_with_mirrors_asks_the_hub_nothing(
    asked: Callable[[], list[str]], stack: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A preset as those of Stable Diffusion are, of a size that a test can run.
    official = preset("sd15")
    of_the_hub = replace(
        preset("shapes"),
        base=replace(official.base),
        ingest=official.ingest,
        held_out=official.held_out,
        weights=official.weights,
        evaluate=replace(preset("shapes").evaluate, prompts=official.evaluate.prompts),
    )
    monkeypatch.setitem(PRESETS.own, "shapes", of_the_hub)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", stack["MLFLOW_TRACKING_URI"])
    monkeypatch.setenv("PIPELINE_STATE", str(tmp_path / "state"))
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a large red circle\na small blue square\na green triangle\n")
    version = align(
        "shapes",
        "adaptive",
        steps=2,
        source="shapes://pairs",
        limit=200,
        weights=MIRROR,
        prompts=str(prompts),
        base=str(assets_dir() / "hub" / "shapes" / "base"),
        store=str(tmp_path / "store"),
    )
    assert version.startswith("models:/adaptive-shapes/")
    assert asked() == []
