"""The stack's parts without its servers: settings, ports, locks, marks, the supervisor's decisions."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import psutil
import pytest

from deploy.stack import ROOT, StackError, StackSettings, api, control, down, process_environment, status, up
from deploy.stack.__main__ import command_environment, main
from deploy.stack.components import ARTIFACTS_VARIABLE, Component, components, mlflow_server
from deploy.stack.processes import end_processes, free_port, owned_processes, require_free_ports
from deploy.stack.settings import client_environment, component_environment, configured_port
from deploy.stack.supervisor import Supervised, has_supervisor, restart_delay, supervisor_lock

SLEEP = [sys.executable, "-c", "import time; time.sleep(300)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(300)",
]


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[StackSettings]:
    one = StackSettings(tmp_path.resolve() / "state", free_port(), free_port())
    one.logs.mkdir(parents=True)
    yield one
    end_processes(lambda: owned_processes(one), grace_s=0.0)


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def component(settings: StackSettings, command: list[str], **changes: Any) -> Component:
    defaults: dict[str, Any] = {
        "name": "part",
        "command": command,
        "environment": component_environment(settings, "part"),
        "healthy": lambda _: True,
        "grace_s": 5.0,
    }
    return Component(**(defaults | changes))


def step_until(one: Supervised, condition: Callable[[], bool], healthy: set[str] | None = None) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, one.record()
        one.step(healthy or set())
        time.sleep(0.02)


def test_taken_port_names_port_holder_and_variable(settings: StackSettings, listener: int) -> None:
    taken = StackSettings(settings.state, settings.prefect_port, listener)
    with pytest.raises(StackError) as caught:
        up(taken)
    message = str(caught.value)
    assert f"port {listener}" in message and "mlflow" in message and "PIPELINE_MLFLOW_PORT" in message
    assert f"process {os.getpid()} " in message
    assert not has_supervisor(taken)


def test_one_port_for_both_servers_is_refused(settings: StackSettings) -> None:
    with pytest.raises(StackError, match="PIPELINE_MLFLOW_PORT"):
        require_free_ports(StackSettings(settings.state, settings.prefect_port, settings.prefect_port))


@pytest.mark.parametrize("text", ["0", "65536", "42x", "-1"])
def test_port_variable_is_checked(text: str) -> None:
    with pytest.raises(StackError, match="PIPELINE_PREFECT_PORT"):
        configured_port("prefect", {"PIPELINE_PREFECT_PORT": text})
    assert configured_port("prefect", {"PIPELINE_PREFECT_PORT": "14200"}) == 14200
    assert configured_port("prefect", {"PIPELINE_PREFECT_PORT": ""}) is None


def test_environment_points_at_the_stack_and_nowhere_else(settings: StackSettings) -> None:
    users = {
        "PATH": "/usr/bin",
        "PREFECT_API_KEY": "secret",
        "PREFECT_API_URL": "https://api.prefect.cloud",
        "MLFLOW_TRACKING_TOKEN": "secret",
        "HF_TOKEN": "kept",
        "no_proxy": "intranet",
        "HTTPS_PROXY": "http://proxy:3128",
    }
    variables = process_environment(settings, users)
    assert variables["PREFECT_API_URL"] == f"http://127.0.0.1:{settings.prefect_port}/api"
    assert variables["MLFLOW_TRACKING_URI"] == f"http://127.0.0.1:{settings.mlflow_port}"
    assert variables["PREFECT_HOME"].startswith(str(settings.state))
    assert variables["PIPELINE_STATE"] == str(settings.state) and settings.state.is_absolute()
    assert "secret" not in variables.values() and variables["HF_TOKEN"] == "kept"
    assert variables["NO_PROXY"].split(",") == ["intranet", "127.0.0.1", "localhost"]
    assert Path(variables["PATH"].split(os.pathsep)[0]) == Path(sys.executable).parent
    again = process_environment(settings, variables)
    assert again["NO_PROXY"] == variables["NO_PROXY"]


def test_every_component_listens_on_this_machine_only_and_keeps_its_state_in_the_folder(
    settings: StackSettings,
) -> None:
    servers = {one.name: one for one in components(settings)}
    assert list(servers) == ["prefect", "mlflow", "worker"]
    for name in ("prefect", "mlflow"):
        command = servers[name].command
        assert command[command.index("--host") + 1] == "127.0.0.1"
    assert sum(str(settings.state) in argument for argument in servers["mlflow"].command) == 2
    assert servers["worker"].needs == ("prefect", "mlflow")


def test_mlflow_keeps_its_files_where_the_variable_says(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_ARTIFACTS", "s3://bucket/models")
    command = mlflow_server(settings).command
    assert command[command.index("--artifacts-destination") + 1] == "s3://bucket/models"
    assert "--serve-artifacts" in command, "clients need no key"


def test_ports_of_the_running_stack_win(settings: StackSettings) -> None:
    variables = {"PIPELINE_STATE": str(settings.state)}
    assert control.current_settings(variables).prefect_port == 4200
    assert control.current_settings(variables | {"PIPELINE_PREFECT_PORT": "14200"}).prefect_port == 14200
    with supervisor_lock(settings):
        record = f'{{"supervisor": {os.getpid()}, "prefect_port": 5, "mlflow_port": 6, "components": {{}}}}'
        settings.state_file.write_text(record)
        assert control.current_settings(variables) == StackSettings(settings.state, 5, 6)
        with pytest.raises(StackError, match="make down"):
            control.current_settings(variables | {"PIPELINE_PREFECT_PORT": "14200"})
    assert control.current_settings(variables).prefect_port == 4200, "a file without a supervisor says nothing"


def test_down_and_status_of_a_stack_that_does_not_run(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert down(settings) is False
    assert status(settings) == []
    monkeypatch.setenv("PIPELINE_STATE", str(settings.state))
    monkeypatch.setattr(sys, "argv", ["stack", "status"])
    assert main() == 3
    assert "make up" in capsys.readouterr().out


def test_the_lock_admits_one_supervisor(settings: StackSettings) -> None:
    assert not has_supervisor(settings)
    with supervisor_lock(settings):
        assert has_supervisor(settings)
        with pytest.raises(StackError, match="already"), supervisor_lock(settings, timeout_s=0.1):
            pass
    assert not has_supervisor(settings)


def test_env_command_is_read_back_by_a_shell(settings: StackSettings) -> None:
    spaced = StackSettings(settings.state / "with space", settings.prefect_port, settings.mlflow_port)
    ports = {"PIPELINE_PREFECT_PORT": str(spaced.prefect_port), "PIPELINE_MLFLOW_PORT": str(spaced.mlflow_port)}
    script = f'eval "$({sys.executable} -m deploy.stack env)"; echo "$PREFECT_HOME|$PREFECT_API_URL"'
    variables = os.environ | ports | {"PIPELINE_STATE": str(spaced.state)}
    result = subprocess.run(["bash", "-c", script], env=variables, capture_output=True, text=True, check=True)
    expected = client_environment(spaced)
    assert result.stdout.strip() == f"{expected['PREFECT_HOME']}|{expected['PREFECT_API_URL']}"


def test_commands_go_to_the_users_own_server_where_no_stack_runs(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    team = {"PREFECT_API_URL": "https://prefect.example/api", "PREFECT_API_AUTH_STRING": "me:secret"}
    for name, value in {**team, "PIPELINE_CPU_POOL": "cpu", "PIPELINE_STATE": str(settings.state)}.items():
        monkeypatch.setenv(name, value)
    used = command_environment(settings)
    assert team.items() <= used.items()
    assert (used["PIPELINE_CPU_POOL"], used["PIPELINE_GPU_POOL"]) == ("cpu", "local")
    assert Path(used["PATH"].split(os.pathsep)[0]) == Path(sys.executable).parent
    said = capsys.readouterr().err
    assert "using https://prefect.example/api" in said and "secret" not in said
    with supervisor_lock(settings):
        used = command_environment(settings)
        assert used["PREFECT_API_URL"] == f"{settings.prefect_url}/api" and "PREFECT_API_AUTH_STRING" not in used
        assert "not https://prefect.example/api" in capsys.readouterr().err
    monkeypatch.delenv("PREFECT_API_URL")
    assert command_environment(settings)["PREFECT_API_URL"] == f"{settings.prefect_url}/api"
    assert capsys.readouterr().err == ""


def test_marks_lead_to_orphans_in_sessions_of_their_own(settings: StackSettings) -> None:
    script = f"import subprocess; subprocess.Popen({SLEEP!r}, start_new_session=True)"
    environment = component_environment(settings, "worker")
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    assert len(owned_processes(settings, "worker")) == 1
    assert owned_processes(settings, "prefect") == []
    other = StackSettings(settings.state / "other", settings.prefect_port, settings.mlflow_port)
    assert owned_processes(other) == []
    assert end_processes(lambda: owned_processes(settings, "worker"), grace_s=5.0) == 1
    assert owned_processes(settings) == []


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace(settings: StackSettings) -> None:
    environment = component_environment(settings, "part")
    with subprocess.Popen(DEAF, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        started = time.monotonic()
        assert end_processes(lambda: owned_processes(settings), grace_s=0.5) == 1
        assert time.monotonic() - started >= 0.5
    assert owned_processes(settings) == []


def test_restart_delays_double_up_to_a_limit() -> None:
    assert [restart_delay(n) for n in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]


def test_killed_component_is_started_again_without_its_survivors(settings: StackSettings) -> None:
    script = f"import subprocess, time; subprocess.Popen({SLEEP!r}, start_new_session=True); time.sleep(300)"
    started: list[int] = []
    part = component(
        settings,
        [sys.executable, "-c", script],
        before_start=lambda: started.append(len(owned_processes(settings, "part"))),
    )
    one = Supervised(part, settings)
    step_until(one, lambda: one.status == "healthy" and len(owned_processes(settings)) == 2)
    assert one.process is not None
    first, survivors = one.process.pid, {p.pid for p in owned_processes(settings)}
    os.kill(first, signal.SIGKILL)
    step_until(one, lambda: one.status == "restarting")
    assert (one.last_exit, one.restarts) == (-signal.SIGKILL, 1)
    step_until(one, lambda: one.status == "healthy")
    assert one.process.pid != first
    assert started == [0, 0], "nothing of the previous process lives when the next one is prepared"
    assert not survivors & {p.pid for p in owned_processes(settings)}
    one.stop()
    assert owned_processes(settings) == [] and one.status == "stopped"


def test_component_waits_for_what_it_needs_and_for_its_preparation(settings: StackSettings) -> None:
    failures = [OSError("the server does not answer")]

    def prepare() -> None:
        if failures:
            raise failures.pop()

    one = Supervised(component(settings, SLEEP, needs=("server",), before_start=prepare), settings)
    one.step(set())
    assert (one.process, one.status) == (None, "waiting")
    one.step({"server"})
    assert (one.process, one.status) == (None, "restarting")
    step_until(one, lambda: one.status == "healthy", {"server"})
    one.stop()


def test_a_component_that_cannot_be_started_now_is_started_later(settings: StackSettings) -> None:
    answers: list[dict[str, str]] = [{}, {"id": "known"}]
    log = settings.logs / "part.log"
    log.mkdir()  # as where the disk is full: it cannot be opened
    one = Supervised(component(settings, SLEEP, before_start=lambda: answers.pop(0)["id"]), settings)
    try:
        step_until(one, lambda: one.status == "restarting")
        assert len(answers) == 1, "an odd answer ended nothing"
        step_until(one, lambda: not answers)
        assert (one.status, one.process) == ("restarting", None)
        log.rmdir()
        answers.append({"id": "known"})
        step_until(one, lambda: one.status == "healthy")
    finally:
        one.stop()


def test_stopping_kills_a_component_that_does_not_end(
    settings: StackSettings, caplog: pytest.LogCaptureFixture
) -> None:
    after: list[bool] = []
    log = settings.logs / "part.log"
    part = component(
        settings,
        DEAF,
        healthy=lambda _: "deaf" in log.read_text(),
        grace_s=0.3,
        after_stop=lambda: after.append(True),
    )
    one = Supervised(part, settings)
    step_until(one, lambda: one.status == "healthy")
    one.stop()
    assert "killing it" in caplog.text
    assert owned_processes(settings) == [] and after == [True]


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_components_do_not_outlive_a_killed_supervisor(settings: StackSettings) -> None:
    script = (
        "import os, sys, time; from pathlib import Path; from deploy.stack.supervisor import Supervised\n"
        "from deploy.stack import StackSettings; from deploy.stack.components import Component\n"
        "from deploy.stack.settings import component_environment\n"
        f"s = StackSettings(Path({str(settings.state)!r}), 1, 2)\n"
        f"c = Component('part', {SLEEP!r}, component_environment(s, 'part'), lambda _: True, 1.0)\n"
        "one = Supervised(c, s); one.step(set()); print(one.process.pid, flush=True); time.sleep(300)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    gone, _ = psutil.wait_procs([child], timeout=10)
    assert gone or child.status() == psutil.STATUS_ZOMBIE


def test_call_asks_a_busy_server_again_and_reports_other_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [503, 503, 200, 404, 503]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(answers.pop(0))
            self.end_headers()
            self.wfile.write(b'{"a": 1}')

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing."""

    monkeypatch.setattr(api, "RETRY_S", 0.01)
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert api.call(url, {}) == {"a": 1}
        with pytest.raises(HTTPError, match="404"):
            api.call(url, {})
        with pytest.raises(HTTPError, match="503"):
            api.call(url, {}, attempts=1)
        server.shutdown()
    assert answers == []


def test_a_key_in_the_address_of_artifacts_comes_on_no_command_line(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ARTIFACTS_VARIABLE, "s3://AKIA:planted@bucket/prefix")
    with pytest.raises(StackError, match=f"{ARTIFACTS_VARIABLE}: .*login") as refused:
        mlflow_server(settings)
    assert "planted" not in str(refused.value)
    monkeypatch.setenv(ARTIFACTS_VARIABLE, "s3://bucket/prefix")
    assert "s3://bucket/prefix" in mlflow_server(settings).command
