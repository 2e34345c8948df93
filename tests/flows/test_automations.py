"""What `make deploy` has the Prefect server do by itself."""

from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import get_client

from deploy import automations
from deploy.stack import StackSettings
from deploy.stack.settings import client_environment
from tests.integration.compose import FOLDER

NAME = "crash-zombie-runs"


@pytest.mark.usefixtures("api")
def test_automations_are_declared_once_and_stay_switched_off(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with get_client(sync_client=True) as client:
        for present in client.read_automations_by_name(NAME):
            client.delete_automation(present.id)
        assert automations.main() == 0
        assert f"automation {NAME}: created" in capsys.readouterr().out
        assert automations.main() == 0
        assert capsys.readouterr().out == "", "the second time there is nothing to do"

        (present,) = client.read_automations_by_name(NAME)
        client.pause_automation(present.id)
        changed = deepcopy(automations.AUTOMATIONS)
        changed[NAME]["trigger"]["within"] = 600
        monkeypatch.setattr(automations, "AUTOMATIONS", changed)
        assert automations.main() == 0
        assert capsys.readouterr().out == f"automation {NAME}: updated\n"
        (present,) = client.read_automations_by_name(NAME)
        assert present.trigger.model_dump()["within"].total_seconds() == 600
        assert not present.enabled, "what operators switched off stays off"


def test_a_server_that_was_away_for_two_minutes_does_not_make_zombies(tmp_path: Path) -> None:
    within = automations.AUTOMATIONS[NAME]["trigger"]["within"]
    worker = yaml.safe_load((FOLDER / "workers.yaml").read_text())["services"]["worker-cpu"]["environment"]
    local = client_environment(StackSettings(tmp_path, 1, 2))
    for environment in (worker, local):
        heartbeat = int(environment["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
        assert within >= 120 + 60 + 2 * heartbeat, "and a minute to start again"
        for retries in ("PREFECT_CLIENT_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
            assert sum(2**n for n in range(1, int(environment[retries]))) >= 120
