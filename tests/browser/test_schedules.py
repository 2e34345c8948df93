"""Schedules as a user makes them in Prefect's pages, and the runs that come of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator

from tasks.run_names import AUTOMATIC
from tests.browser.servers import Visit, visit
from tests.integration.deployments import Deployments

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

EVERY_MINUTE = "* * * * *"
PAGES = ("", "/v2")
"""Prefect has its pages twice: those that our servers lead a browser to, and newer ones, one click away."""
ASKED_BY_V2 = "https://sr-client-cfg.amplitude.com/"
"""In vain here. It is why browsers are not led there."""


@pytest.fixture
def opened(browser: Browser) -> Iterator[Visit]:
    with visit(browser) as found:
        yield found
        assert [url for url in found.outside if not url.startswith(ASKED_BY_V2)] == []


def open_form(opened: Visit, deployments: Deployments, deployment: str, page: str) -> Locator:
    """The dialog for a schedule by cron, on the deployment's page."""
    opened.page.goto(f"{address(deployments)}{page}/deployments/deployment/{deployment}")
    opened.page.get_by_role("button", name="Schedule", exact=True).click()
    form = opened.page.get_by_role("dialog")
    form.get_by_text("Cron", exact=True).click()
    return form


@pytest.mark.parametrize("page", PAGES)
def test_a_schedule_made_in_the_form_runs_with_its_parameters(
    opened: Visit, deployments: Deployments, screenshots: Path, page: str
) -> None:
    with deployments.unscheduled("ingest/shapes") as deployment:
        form = open_form(opened, deployments, deployment, page)
        if page:
            form.locator("input[name='schedule.cron']").fill(EVERY_MINUTE)
            form.get_by_role("tab", name="int", exact=True).first.click()  # `limit`, the first number
        else:
            form.locator("input[type=text]").nth(1).fill(EVERY_MINUTE)
            form.get_by_text("Select parameters to override for this schedule").click()
            opened.page.keyboard.type("limit")
            opened.page.get_by_role("option", name="limit").click()
            opened.page.keyboard.press("Escape")
            form.get_by_role("button", name="int", exact=True).click()
        form.locator("input[type=number]").fill("60")
        form.get_by_role("button", name="Save").click()
        form.wait_for(state="hidden")
        (schedule,) = deployments.get(f"deployments/{deployment}/schedules")
        assert (schedule["schedule"]["cron"], schedule["active"]) == (EVERY_MINUTE, True)
        assert schedule["parameters"]["limit"] == 60
        first, second = deployments.completed(schedule, 2)
        for run in (first, second):
            assert run["parameters"].items() >= {"preset": "shapes", "limit": 60}.items()
            assert re.fullmatch(r"ingest shapes [0-9a-f]{6}", run["name"])
        assert first["name"] == second["name"], "the same question"
        opened.page.reload()
        opened.shows(first["name"], "Completed")
        opened.page.get_by_text("Every minute").locator("visible=true").first.wait_for()
        opened.page.screenshot(path=screenshots / f"prefect-schedule{page.replace('/', '-')}.png")


def test_a_schedule_made_by_command_runs(deployments: Deployments) -> None:
    with deployments.unscheduled("ingest/shapes"):
        schedule = deployments.schedule("ingest/shapes", "--cron", EVERY_MINUTE, "--timezone", "UTC")
        (run,) = deployments.completed(schedule, 1)
        assert run["parameters"]["preset"] == "shapes"


def test_the_form_leaves_what_the_deployment_gives(opened: Visit, deployments: Deployments) -> None:
    """Prefect's form empties every parameter that may be empty: a schedule of `label/dedpo25` had no recipe."""
    with deployments.unscheduled("label/dedpo25") as deployment:
        form = open_form(opened, deployments, deployment, "/v2")
        form.locator("input[name='schedule.cron']").fill("0 3 1 1 *")
        form.get_by_role("button", name="Save").click()
        form.wait_for(state="hidden")
        (schedule,) = deployments.get(f"deployments/{deployment}/schedules")
        found = deployments.get(f"deployments/{deployment}")["parameters"] | schedule["parameters"]
        assert found["recipe"] == "dedpo25"


@pytest.mark.parametrize("page", PAGES)
def test_names_that_the_form_for_runs_proposes_are_known_as_such(
    opened: Visit, deployments: Deployments, page: str
) -> None:
    deployment = deployments.get("deployments/name/label/shapes")["id"]
    opened.page.goto(f"{address(deployments)}{page}/deployments/deployment/{deployment}/run")
    opened.shows("Submit")
    name = opened.page.locator("input:not([type=checkbox])").first
    another = name.locator("xpath=following::button[1]")
    proposed = set()
    for _ in range(60):
        proposed.add(name.input_value())
        another.click()
    assert len(proposed) > 40
    assert [one for one in proposed if not AUTOMATIC.fullmatch(one)] == []


@pytest.mark.parametrize("page", PAGES)
def test_a_run_from_the_form_gets_our_name(opened: Visit, deployments: Deployments, page: str) -> None:
    deployment = deployments.get("deployments/name/ingest/shapes")["id"]
    opened.page.goto(f"{address(deployments)}{page}/deployments/deployment/{deployment}/run")
    with opened.page.expect_response("**/create_flow_run") as answer:
        opened.page.get_by_role("button", name="Submit").click()
    run = deployments.ended(answer.value.json()["id"])
    assert run["state_type"] == "COMPLETED"
    assert re.fullmatch(r"ingest shapes [0-9a-f]{6}", run["name"])


def address(deployments: Deployments) -> str:
    """Where Prefect's pages are."""
    return deployments.env["PREFECT_API_URL"].removesuffix("/api")
