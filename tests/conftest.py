"""What every test shares: the environment, set before torch and polars load, and one stack of servers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests import planted

if TYPE_CHECKING:
    from tests.integration.deployments import Deployments

# One thread per process: oversubscribed cores cost small models a factor of ten and more. Child processes inherit it.
for name, value in {
    "OMP_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # 20 is little on a busy machine
}.items():
    os.environ.setdefault(name, value)


# Of the stack that all tests share; each takes a second.
REGISTERED = (
    "align/shapes",
    "train-dpo/shapes",
    "train-balanced/sdxl",
    "score/shapes",
    "label/shapes",
    "label/dedpo25",
    "ingest/shapes",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what shares fixtures when several processes run the tests: a file, and all users of the stack."""
    for item in items:
        shared = "stack" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("stack" if shared else item.nodeid.partition("::")[0]))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a stack's users. Only they know the planted secrets.

    A test may kill its worker, which comes back, but not its servers.
    """
    from deploy.stack import current_settings, running_stack, status
    from deploy.stack.processes import owned_processes

    with ExitStack() as until_the_end:
        with pytest.MonkeyPatch.context() as patch:
            for name, secret in planted.LOCAL.items():
                patch.setenv(name, secret)
            env = until_the_end.enter_context(running_stack(tmp_path_factory.mktemp("stack") / "state"))
        settings = current_settings(env)
        yield env
    assert status(settings) == [] and owned_processes(settings) == [] and not settings.state_file.exists()


@pytest.fixture(scope="session")
def deployments(stack: dict[str, str]) -> Deployments:
    """The stack's deployments, those that its tests run."""
    from tests.integration.deployments import Deployments

    found = Deployments(stack)
    found.register(*REGISTERED)
    return found


@pytest.fixture(scope="session")
def aligned(deployments: Deployments) -> dict[str, Any]:
    """The flow run of the whole chain, short, on an empty store."""
    from tests.integration.deployments import SMALL

    run = deployments.run("align/shapes", **SMALL)
    assert run["state_type"] == "COMPLETED", deployments.logs(run)
    return run
