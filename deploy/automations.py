"""What the Prefect server does by itself: `python -m deploy.automations` declares the file automations.yaml."""

import sys
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.schemas.automations import AutomationCore

AUTOMATIONS: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())


BLOCK = "notify"
"""The block document by which notifications go out, of whatever type that can notify."""


def completed(client: SyncPrefectClient, body: dict[str, Any]) -> dict[str, Any] | None:
    """The automation's body with the block of its notifications; None where there is no such block."""
    if not any(action["type"] == "send-notification" for action in body["actions"]):
        return body
    able = {"block_schemas": {"block_capabilities": {"all_": ["notify"]}}, "limit": 200}
    documents = client.request("POST", "/block_documents/filter", json=able).raise_for_status().json()
    found = [document["id"] for document in documents if document["name"] == BLOCK]
    if not found:
        return None
    actions = [{**action, "block_document_id": found[0]} for action in body["actions"]]
    return {**body, "actions": actions}


def declare(client: SyncPrefectClient, name: str, body: dict[str, Any]) -> str | None:
    """Create the automation, or bring it up to date; returns what was done, None for nothing."""
    wanted = AutomationCore.model_validate({"name": name, **body})
    present = client.read_automations_by_name(name)
    if not present:
        client.create_automation(wanted)
        return f"created. {wanted.description}"
    wanted = wanted.model_copy(update={"enabled": present[0].enabled})
    # Its trigger gets an id of its own on the server.
    if _plain(present[0]) == _plain(wanted):
        return None
    client.update_automation(present[0].id, wanted)
    return "updated"


def _plain(automation: AutomationCore) -> dict[str, Any]:
    plain = automation.model_dump(include=set(AutomationCore.model_fields))
    plain["trigger"].pop("id", None)
    return plain


def main() -> int:
    """Declare all, printing what was done."""
    with get_client(sync_client=True) as client:
        for name, body in AUTOMATIONS.items():
            whole = completed(client, body)
            if whole and (done := declare(client, name, whole)):
                print(f"automation {name}: {done}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
