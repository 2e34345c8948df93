"""Addresses are links where a browser can open them, else text."""

from __future__ import annotations

import pytest

from tasks.links import markdown, mlflow_url, prefect_note, run_url, version_url


def test_pages_are_those_that_browsers_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000/")
    assert version_url("models:/dpo-sdxl/3") == "http://mlflow:5000/#/models/dpo-sdxl/versions/3"
    monkeypatch.setenv("PIPELINE_MLFLOW_UI_URL", "https://team.example/mlflow")
    assert run_url("1", "r") == "https://team.example/mlflow/#/experiments/1/runs/r"
    assert run_url("1", "r", "evaluation/report.html").endswith("/runs/r/artifacts/evaluation/report.html")


def test_what_no_browser_opens_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////data/mlflow.db")
    assert markdown("the run", mlflow_url("experiments/1")) == "the run"
    assert markdown("a page", "/store/report.html") == markdown("a page", "file:///store/report.html") == "a page"
    tags = {"prefect.flow_run_name": "a run", "prefect.flow_run_url": "", "prefect.deployment": "align/sdxl"}
    assert prefect_note(tags) == "Prefect: a run, deployment align/sdxl"
