"""What the docs show and tests/docs does not execute: which test executes it, or why none does.

A command or a block of Python is known by its page and its beginning.
"""

TESTED = {
    ("docs/scheduling.md", ""): "tests/integration/test_scheduling_page.py",
    ("docs/cost.md", "python -m pipeline_lib.sizing"): "tests/pipeline_lib/sizing/test_sizing.py",
    (
        "docs/gpu.md",
        "python -m pipeline_lib.training.launch.join",
    ): "tests/pipeline_lib/training/launch/test_machines.py",
    ("docs/ray.md", "python -m deploy.worker"): "tests/integration/test_gpu_pool.py",
    ("docs/parameters.md", "prefect api PATCH"): "tests/integration/test_bad_parameters.py",
    ("docs/security.md", "curl --user admin"): "tests/integration/test_team_mlflow.py",
    ("README.md", "import json"): "tests/pipeline_lib/cli/test_cli.py",
    ("docs/command-line.md", ""): "tests/pipeline_lib/cli/test_cli.py",
    ("docs/registry.md", ""): "tests/integration/test_documented_runs.py",
    ("docs/scorers.md", '"""LAION'): "tests/pipeline_lib/scoring/test_walkthrough.py",
    ("docs/scorers.md", '"aesthetic-v1"'): "tests/pipeline_lib/scoring/test_walkthrough.py",
    ("docs/scorers.md", "from pathlib"): "tests/pipeline_lib/scoring/test_walkthrough.py",
    ("docs/training.md", '"""Squared'): "tests/pipeline_lib/training/test_walkthrough.py",
    ("docs/training.md", '"squared-hinge"'): "tests/pipeline_lib/training/test_walkthrough.py",
    ("docs/training.md", "from tests."): "tests/pipeline_lib/training/test_walkthrough.py",
    ("docs/notifications.md", "from prefect"): "tests/flows/test_automations.py",
}
"""Executed there, word for word or with a test's own values."""

NOT_RUN = {
    ("README.md", "make"): "sets up an environment, starts servers on fixed ports, or runs all tests",
    ("CONTRIBUTING.md", "make"): "sets up an environment, or runs all tests",
    ("docs/gpu.md", "make"): "sets up an environment, and starts servers on fixed ports",
    ("docs/sweeps.md", "make claims"): "takes hours; tests/deploy/test_claim_runs.py has what it does",
    ("docs/ray.md", "ray job submit"): "needs a cluster with a dashboard",
    (
        "docs/team.md",
        "docker compose",
    ): "needs Docker; tests/integration/test_compose.py starts each service's command without it",
    ("docs/world.md", "python -m pipeline_lib.shapes build"): "takes an hour; a test builds parts of it",
    ("docs/models.md", "from diffusers"): "reads a stranger's pickles",
}
"""Executed nowhere, for this reason; targets of make are looked up in the Makefile."""

UNKNOWN_TO_FORMS = {
    ("docs/scorers.md", "prefect deployment run score/shapes --param 'scorers=[\"aesthetic-v1\"]'"),
}
"""Runs that a form takes only when the page's own walk-through is in place."""


def said(table: dict[tuple[str, str], str], page: str, text: str) -> tuple[str, str] | None:
    """The entry for a command or block."""
    return next((key for key in table if key[0] == page and text.startswith(key[1])), None)
