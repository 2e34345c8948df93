"""Servers that turn a caller away, answer something else, or do not answer: findings say which, and what to do."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from importlib.metadata import version

from deploy.doctor.findings import Finding
from deploy.doctor.servers import reach_mlflow, reach_prefect
from deploy.stack.processes import free_port
from tests.deploy.doctor.loopback import Answer, answering

LOGIN = "team:correct-horse"


def _prefect(path: str, headers: Mapping[str, str]) -> Answer:
    right = f"Basic {base64.b64encode(LOGIN.encode()).decode()}"
    if path != "/api/health" and headers.get("Authorization") != right:
        return 401, {}, {"exception_message": "Unauthorized"}
    return 200, {}, version("prefect") if path == "/api/admin/version" else True


def prefect(**variables: str) -> Finding:
    server, finding = reach_prefect(variables)
    assert (server is None) == (finding.level == "error")
    return finding


def mlflow(**variables: str) -> Finding:
    server, finding = reach_mlflow(variables)
    assert (server is None) == (finding.level == "error")
    return finding


def test_a_login_that_is_missing_wrong_and_right() -> None:
    with answering(_prefect) as url:
        missing, wrong, right = (
            prefect(PREFECT_API_URL=f"{url}/api/", **({"PREFECT_API_AUTH_STRING": login} if login else {}))
            for login in ("", "team:battery-staple", LOGIN)
        )
    assert "wants a login, and none is set (401)" in missing.what
    assert "refuses the login (401)" in wrong.what
    assert wrong.remedy.startswith("export PREFECT_API_AUTH_STRING=")
    assert right.level == "ok" and version("prefect") in right.what


def test_mlflow_that_answers_health_checks_but_not_this_host() -> None:
    def answer(path: str, headers: Mapping[str, str]) -> Answer:
        if path in ("/health", "/version"):
            return 200, {}, "OK"
        return 403, {"Content-Type": "text/plain"}, "Invalid Host header - possible DNS rebinding attack detected"

    with answering(answer) as url:
        finding = mlflow(MLFLOW_TRACKING_URI=url)
    assert "Invalid Host header" in finding.what
    assert "MLFLOW_SERVER_ALLOWED_HOSTS='127.0.0.1:*," in finding.remedy


def test_mlflow_users() -> None:
    def answer(path: str, headers: Mapping[str, str]) -> Answer:
        login = headers.get("Authorization", "")
        return (401, {}, "You are not authenticated.") if not login else (403, {}, "Permission denied")

    with answering(answer) as url:
        nobody = mlflow(MLFLOW_TRACKING_URI=url)
        reader = mlflow(MLFLOW_TRACKING_URI=url, MLFLOW_TRACKING_USERNAME="reader", MLFLOW_TRACKING_PASSWORD="p")
    assert "none is set (401)" in nobody.what and "MLFLOW_TRACKING_USERNAME" in nobody.remedy
    assert "does not let this user in (403)" in reader.what


def test_other_servers_versions_and_silence() -> None:
    def page(path: str, headers: Mapping[str, str]) -> Answer:
        return 200, {"Content-Type": "text/html"}, "<html>Welcome</html>"

    def older(path: str, headers: Mapping[str, str]) -> Answer:
        return 200, {}, {} if path.endswith("search") else "3.0.1"

    with answering(page) as url:
        assert "is no Prefect API" in prefect(PREFECT_API_URL=url).what
        assert "is no MLflow server" in mlflow(MLFLOW_TRACKING_URI=url).what
    with answering(older) as url:
        for finding in (prefect(PREFECT_API_URL=f"{url}/api"), mlflow(MLFLOW_TRACKING_URI=url)):
            assert finding.level == "warning" and "3.0.1, installed here is" in finding.what
    silent = f"http://127.0.0.1:{free_port()}"
    assert "does not answer: [Errno" in prefect(PREFECT_API_URL=f"{silent}/api").what
    assert "make up" in mlflow(MLFLOW_TRACKING_URI=silent).remedy
    assert "is not set" in prefect().what
    assert "is no server" in mlflow(MLFLOW_TRACKING_URI="sqlite:///mlflow.db").what
