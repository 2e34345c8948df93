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


# Of the stack that all tests share.
REGISTERED = (
    "align/shapes",
    "train-dpo/shapes",
    "train-balanced/sdxl",
    "score/shapes",
    "label/shapes",
    "label/dedpo25",
    "ingest/shapes",
)


# Where the users of the stack are: one process runs them all when several share the tests, so that there is one stack.
USERS = (
    "tests/browser/",
    "tests/flows/",
    "tests/integration/",
    "tests/chaos/test_checks.py",
    "tests/deploy/doctor/test_stack.py",
    "tests/deploy/test_stack_integration.py",
    "tests/tasks/test_wanted.py",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep together what shares fixtures, where several processes run the tests: a file; all users of the stack."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "stack" if nodeid.startswith(USERS) else nodeid.partition("::")[0]

    return ByFile(config, log)


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
