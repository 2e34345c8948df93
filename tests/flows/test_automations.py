"""What `make deploy` has the Prefect server do by itself."""

from copy import deepcopy

import pytest
from prefect.client.orchestration import get_client

from deploy import automations
from deploy.stack.settings import PATIENCE, ROOT

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


def test_a_server_that_was_away_for_two_minutes_does_not_make_zombies() -> None:
    within = automations.AUTOMATIONS[NAME]["trigger"]["within"]
    assert within >= 120 + 60 + 2 * int(PATIENCE["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]), "and a minute to start again"
    for retries in ("PREFECT_CLIENT_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        assert sum(2**n for n in range(1, int(PATIENCE[retries]))) >= 120
    images = (ROOT / "docker" / "Dockerfile").read_text()
    assert all(images.count(f"{name}={value}") == 2 for name, value in PATIENCE.items())
