"""What a user of the local stack finds in the servers' own pages after `align/shapes`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from playwright.sync_api import Browser

from tests.browser.servers import COMPLETED, Visit, drawn_in, visit
from tests.integration.deployments import Deployments

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

STAGES = {"ingest", "score", "label", "encode", "train-balanced", "evaluate", "register"}


@pytest.fixture
def opened(browser: Browser) -> Iterator[Visit]:
    """A page; whatever the test does there, nothing outside of this machine is asked for."""
    with visit(browser) as found:
        yield found
        assert found.outside == []


def test_prefect_lists_the_deployments(opened: Visit, deployments: Deployments, screenshots: Path) -> None:
    opened.page.goto(f"{prefect(deployments)}/deployments")
    opened.shows("align", "train-dpo", "score", "label", "shapes", "sdxl")
    opened.page.screenshot(path=screenshots / "prefect-deployments.png")


def test_a_browser_is_led_to_pages_that_ask_nobody_else(opened: Visit, deployments: Deployments) -> None:
    """Those under /v2 ask amplitude.com."""
    opened.page.goto(prefect(deployments))
    opened.shows("Dashboard", "Deployments")
    assert "/v2" not in opened.page.url


def test_prefect_draws_the_graph_of_a_run(
    opened: Visit, deployments: Deployments, aligned: dict[str, Any], screenshots: Path
) -> None:
    with opened.page.expect_response("**/graph-v2") as answer:
        opened.page.goto(f"{prefect(deployments)}/runs/flow-run/{aligned['id']}")
    nodes = [node for _, node in answer.value.json()["nodes"]]
    assert {node["label"].split(" ")[0] for node in nodes if node["kind"] == "flow-run"} == STAGES
    opened.shows(aligned["name"], "Completed")
    canvas = opened.page.locator("canvas").first
    # Each node is a bar in the colour of its state, at least 8 x 20 pixels.
    for _ in range(100):
        opened.page.wait_for_timeout(300)
        drawn = drawn_in(COMPLETED, canvas.screenshot())
        if drawn > len(nodes) * 160:
            break
    opened.page.screenshot(path=screenshots / "prefect-run.png")
    assert drawn > len(nodes) * 160, f"{drawn} pixels of {len(nodes)} nodes"


def test_mlflow_shows_the_registered_model_and_its_run(
    opened: Visit, deployments: Deployments, aligned: dict[str, Any], screenshots: Path
) -> None:
    address = deployments.env["MLFLOW_TRACKING_URI"]
    uri = deployments.stages(aligned)["register"]["uri"]
    name, version = uri.removeprefix("models:/").split("/")
    client = MlflowClient(address)
    model = client.get_logged_model(client.get_model_version(name, version).source.removeprefix("models:/"))

    opened.page.goto(f"{address}/#/models")
    opened.shows("Registered Models", name)
    opened.page.keyboard.press("Escape")  # what a first visitor is told of the registry
    opened.page.screenshot(path=screenshots / "mlflow-models.png")

    opened.page.goto(f"{address}/#/models/{name}/versions/{version}")
    opened.shows("@ candidate", "pipeline.model_digest", "pipeline.gate")
    opened.page.screenshot(path=screenshots / "mlflow-version.png")

    opened.page.goto(f"{address}/#/experiments/{model.experiment_id}/runs/{model.source_run_id}")
    opened.shows("train/loss", "eval/win_rate/clip")
    opened.page.screenshot(path=screenshots / "mlflow-run.png")
    opened.page.goto(f"{address}/#/experiments/{model.experiment_id}/runs/{model.source_run_id}/model-metrics")
    opened.page.locator("svg.main-svg").first.wait_for()
    opened.page.screenshot(path=screenshots / "mlflow-curves.png")


def test_a_reports_link_in_prefect_shows_it_in_mlflow(
    opened: Visit, deployments: Deployments, aligned: dict[str, Any], screenshots: Path
) -> None:
    (evaluating,) = [run for run in deployments.children(aligned) if run["name"].startswith("evaluate ")]
    query = {"artifacts": {"flow_run_id": {"any_": [evaluating["id"]]}, "key": {"any_": ["report"]}}}
    (artifact,) = deployments.post("artifacts/filter", query)
    opened.page.goto(artifact["data"].partition("(")[2].rstrip(")"))
    report = opened.page.frame_locator("iframe").get_by_role("heading", name="balanced-shapes against base")
    report.first.wait_for()
    opened.page.screenshot(path=screenshots / "mlflow-report.png")


def prefect(deployments: Deployments) -> str:
    """Where Prefect's pages are."""
    return deployments.env["PREFECT_API_URL"].removesuffix("/api")
