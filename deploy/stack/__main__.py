"""Command line of the local stack; `make up`, `make down`, `make status`, `make logs` and `make deploy` call it."""

import argparse
import os
import shlex
import sys
from datetime import timedelta

from deploy.stack.control import current_settings, down, status, tail, up
from deploy.stack.settings import (
    StackError,
    StackSettings,
    client_environment,
    process_environment,
    shell_environment,
)
from deploy.stack.supervisor import has_supervisor, supervise


def print_up(settings: StackSettings) -> int:
    started = up(settings)
    print("The local stack is up." if started else "The local stack is already running.")
    print(f"  Prefect  {settings.prefect_url}")
    print(f"  MLflow   {settings.mlflow_url}")
    print(f"  state    {settings.state}")
    print('  For `prefect` and `mlflow` in this shell: eval "$(.venv/bin/python -m deploy.stack env)"')
    return 0


def print_down(settings: StackSettings) -> int:
    print("The local stack is down." if down(settings) else "The local stack was not running.")
    return 0


def print_status(settings: StackSettings) -> int:
    """Exit status 0 when every component is healthy, 3 (as service managers have it) when not."""
    rows = status(settings)
    if not rows:
        print(f"The local stack is not running (state in {settings.state}); `make up` starts it.")
        return 3
    for row in rows:
        up_for = timedelta(seconds=int(row["up_s"])) if row["pid"] else "-"
        print(
            f"{row['name']:<8} {row['status']:<13} pid {row['pid'] or '-':<8} up {up_for!s:<17} "
            f"restarts {row['restarts']:<3} {row['memory'] / 2**20:>6.0f} MiB  {row['address']}"
        )
    return 0 if all(row["status"] == "healthy" for row in rows) else 3


def print_logs(settings: StackSettings) -> int:
    paths = sorted(settings.logs.glob("*.log"))
    if not paths:
        print(f"No logs in {settings.logs}; `make up` starts the stack.")
    for path in paths:
        print(f"==> {path} <==\n{tail(path, 30)}\n")
    return 0


def print_environment(settings: StackSettings) -> int:
    variables = client_environment(settings) | {"PATH": process_environment(settings)["PATH"]}
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def command_environment(settings: StackSettings) -> dict[str, str]:
    """What `exec` gives a command: the local stack's; the user's own where none runs and they name a server."""
    own = os.environ.get("PREFECT_API_URL")
    if own and not has_supervisor(settings):
        print(f"No local stack runs in {settings.state}: using {own}.", file=sys.stderr)
        return shell_environment()
    variables = process_environment(settings)
    if own and own != variables["PREFECT_API_URL"]:
        used = variables["PREFECT_API_URL"]
        print(f"The local stack runs: using {used}, not {own}. `make down` first for that.", file=sys.stderr)
    return variables


def run_supervisor(settings: StackSettings) -> int:
    supervise(settings)
    return 0


COMMANDS = {
    "up": (print_up, "start the stack and wait until it is healthy"),
    "down": (print_down, "stop it"),
    "status": (print_status, "say what runs; exit status 3 when something does not"),
    "logs": (print_logs, "print the end of every log"),
    "env": (print_environment, "print the `export` lines that point a shell at the stack"),
    "supervise": (run_supervisor, "run the stack in the foreground until SIGTERM (what `up` starts)"),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.stack", description="The local Prefect and MLflow servers and worker."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, text) in COMMANDS.items():
        commands.add_parser(name, help=text)
    execute = commands.add_parser("exec", help="run a command in the stack's environment, or against your own server")
    execute.add_argument("argv", nargs=argparse.REMAINDER, metavar="command")
    arguments = parser.parse_args()
    try:
        settings = current_settings()
        if arguments.command != "exec":
            return COMMANDS[arguments.command][0](settings)
        if not arguments.argv:
            parser.error("exec needs a command")
        variables = command_environment(settings)
        os.execvpe(arguments.argv[0], arguments.argv, variables)
    except FileNotFoundError as error:
        print(f"error: no such command: {error.filename or arguments.argv[0]}", file=sys.stderr)
        return 127
    except (StackError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
