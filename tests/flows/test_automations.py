"""What `make deploy` has the Prefect server do by itself."""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from prefect import flow, task
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient, get_client

from deploy import automations
from deploy.stack.api import call
from deploy.stack.settings import PATIENCE, ROOT
from tests.integration.deployments import Deployments

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


@contextmanager
def webhook() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """An address on loopback, and what was posted to it."""
    received: list[dict[str, str]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return None

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", received
        server.shutdown()


@contextmanager
def notified(client: SyncPrefectClient, url: str, declare: Callable[[], int]) -> Iterator[None]:
    """The server with a block `notify` and what is declared then; without both afterwards."""
    said = {"subject": "{{subject}}", "body": "{{body}}"}
    block = CustomWebhookNotificationBlock(name="to loopback", url=url, json_data=said, headers=None, cookies=None)
    block.save(automations.BLOCK)
    try:
        declare()
        yield
    finally:
        for present in client.read_automations_by_name("notify"):
            client.delete_automation(present.id)
        client.delete_block_document(block._block_document_id)  # type: ignore[arg-type]  # it has been saved


def wait_for(received: list[dict[str, str]], subject: str) -> None:
    deadline = time.monotonic() + 60
    while not any(subject in message["subject"] for message in received):
        assert time.monotonic() < deadline, f"no {subject!r} in {received}"
        time.sleep(0.1)


@task
def parts_break() -> None:
    raise ValueError("this part broke")


@flow
def broken_part() -> None:
    parts_break()


@pytest.mark.integration
@pytest.mark.usefixtures("api")
def test_a_failed_run_gives_one_message_whatever_became_of_its_subflows(
    stack: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    api = stack["PREFECT_API_URL"]
    with get_client(sync_client=True) as client, webhook() as (url, received):
        assert automations.main() == 0
        assert client.read_automations_by_name("notify") == [], "nobody has said where to"
        with notified(client, url, automations.main):
            assert "automation notify: created" in capsys.readouterr().out
            assert automations.main() == 0 and capsys.readouterr().out == ""
            found = call(f"{api}/flows/", {"name": "to-be-notified"})
            deployment = call(f"{api}/deployments/", {"name": "test", "flow_id": found["id"]})
            names = [f"{kind.lower()} {uuid.uuid4().hex[:6]}" for kind in ("FAILED", "CRASHED", "COMPLETED", "FAILED")]
            for name in names:
                path = f"{api}/deployments/{deployment['id']}/create_flow_run"
                run = call(path, {"name": name, "state": {"type": "PENDING"}})
                kind = name.partition(" ")[0].upper()
                for state in ("RUNNING", kind, kind):  # also who says it twice
                    body = {"type": state, "name": state.capitalize(), "message": "because of a test"}
                    call(f"{api}/flow_runs/{run['id']}/set_state", {"state": body, "force": True})
                if name == names[1]:
                    with pytest.raises(ValueError, match="this part broke"):
                        broken_part()  # a run of no deployment, as subflows are
            wait_for(received, names[-1])
    told = [message["subject"] for message in received]
    assert sorted(told) == sorted(f"{n}: {n.partition(' ')[0].capitalize()}" for n in names if "completed" not in n)
    assert received[0]["body"].startswith("to-be-notified/test: because of a test\n")
    assert "/runs/flow-run/" in received[0]["body"]


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.usefixtures("api")
def test_align_that_fails_in_a_stage_gives_one_message(deployments: Deployments) -> None:
    with (
        get_client(sync_client=True) as client,
        webhook() as (url, received),
        notified(client, url, automations.main),
    ):
        run = deployments.run("align/shapes", split="nowhere")
        assert run["state_type"] == "FAILED", deployments.logs(run)
        failed = [child for child in deployments.children(run) if child["state_type"] == "FAILED"]
        assert failed, "a stage has failed with it"
        wait_for(received, run["name"])
        time.sleep(15)  # for what must not come
    assert [message["subject"] for message in received] == [f"{run['name']}: Failed"]
    assert received[0]["body"].startswith("align/shapes: ") and "nowhere" in received[0]["body"]
