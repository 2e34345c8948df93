"""MLflow's pages as the team's reader sees them: whole, and without a refused request that they need."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Response

from deploy.mlflow_access import ACTING_GETS
from pipeline_lib.core.config import BaseModel, TrainConfig
from tasks import registry, tracking
from tests.browser.servers import LOADED_MS
from tests.integration.team_mlflow import PASSWORDS, login, team_server

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_reader_sees_models_runs_and_curves(browser: Browser, tmp_path: Path, screenshots: Path) -> None:
    with team_server(tmp_path) as address, pytest.MonkeyPatch.context() as patch:
        for key, value in login("worker").items() | {("MLFLOW_TRACKING_URI", address)}:
            patch.setenv(key, value)
        (tmp_path / "model").mkdir()
        (tmp_path / "model/model_index.json").write_text("{}")
        base, config = BaseModel(family="sd", repo="someone/else"), TrainConfig(method="diffusion-dpo")
        run = tracking.training_run("dpo-shapes", "key", base, config)
        version = registry.register("dpo-shapes", run, tmp_path / "model", {"eval/win_rate": 0.5}, {"of": "us"})
        experiment = tracking.client().get_run(run).info.experiment_id

        credentials = {"username": "reader", "password": PASSWORDS["reader"]}
        context = browser.new_context(viewport={"width": 1400, "height": 1000}, http_credentials=credentials)  # type: ignore[arg-type]
        context.set_default_timeout(LOADED_MS)
        page = context.new_page()
        refused: list[str] = []

        def look(answer: Response) -> None:
            # Without a login a browser is refused once, and asks again with it.
            if answer.status == 403 and not ACTING_GETS.fullmatch(urlsplit(answer.url).path):
                refused.append(f"{answer.request.method} {answer.url}")

        page.on("response", look)
        for where, text in (
            ("models", "dpo-shapes"),
            (f"models/dpo-shapes/versions/{version}", "@ candidate"),
            (f"experiments/{experiment}/runs", "dpo-shapes-key"),
            (f"experiments/{experiment}/runs/{run}", "eval/win_rate"),
        ):
            page.goto(f"{address}/#/{where}")
            page.get_by_text(text, exact=True).locator("visible=true").first.wait_for()
            page.screenshot(path=screenshots / f"mlflow-reader-{where.partition('/')[0]}.png")
        context.close()
    assert refused == []
