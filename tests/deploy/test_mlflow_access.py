"""Who may do what on the team's MLflow server: every route of the installed version, asked through the whole app."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from deploy.mlflow_access import GRAPHQL, is_read, only_queries
from deploy.stack import ROOT

LOGINS = {name: (name, f"password-of-{name}") for name in ("admin", "worker", "reader")}
# Routes that are read with a method that usually writes.
POSTS = {
    "artifacts/presigned-download-url",
    "datasets/search",
    "experiments/search",
    "experiments/search-datasets",
    "issues/search",
    "logged-models/search",
    "prompt-optimization/jobs/search",
    "registered-models/get-latest-versions",
    "runs/search",
    "traces/batchGetInfos",
    "traces/calculate-filter-correlation",
    "traces/metrics",
    "traces/search",
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The server's app in this process, with the team's file of logins on a database of its own."""
    folder = tmp_path_factory.mktemp("mlflow")
    logins = folder / "auth.ini"
    database = f"sqlite:///{folder / 'logins.db'}"
    logins.write_text((ROOT / "docker/mlflow-auth.ini").read_text().replace("postgresql+psycopg2://", database))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "MLFLOW_AUTH_CONFIG_PATH": str(logins),
            "MLFLOW_AUTH_ADMIN_PASSWORD": LOGINS["admin"][1],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "of this test",
            "_MLFLOW_SGI_NAME": "uvicorn",
            "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder / 'never.db'}",
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(folder / "artifacts"),
        }.items():
            patch.setenv(name, value)
        from mlflow.server import auth

        from deploy.mlflow_access import create_app

        app = create_app()
        for name in ("worker", "reader"):
            auth.store.create_user(*LOGINS[name])
        # The host that MLflow's own list of hosts has.
        yield TestClient(app, base_url="http://localhost:5000", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def routes(client: TestClient) -> set[tuple[str, str]]:
    """(method, path) of every route, Flask's and FastAPI's, with a word for each parameter."""
    from mlflow.server import app as flask

    app: Any = client.app
    native = [route for one in app.app.routes if hasattr(one, "original_router") for route in _effective(one)]
    found = {(method, route.path) for route in native for method in route.methods}
    found |= {(method, rule.rule) for rule in flask.url_map.iter_rules() for method in rule.methods or ()}
    # HEAD and OPTIONS are there wherever GET is, or something else.
    return {
        (method, re.sub(r"[<{][^>}]*[>}]", "x", path)) for method, path in found if method not in ("HEAD", "OPTIONS")
    }


def _effective(included: Any) -> list[Any]:
    """The routes of a router that FastAPI included, under their whole paths."""
    prefix = included.include_context.prefix
    return [_Route(prefix + route.path, route.methods) for route in included.original_router.routes]


class _Route:
    def __init__(self, path: str, methods: set[str]) -> None:
        self.path, self.methods = path, methods


def test_every_route_that_is_not_known_to_read_is_refused_to_readers_and_asks_who_is_there(
    client: TestClient, routes: set[tuple[str, str]]
) -> None:
    writes = {(method, path) for method, path in routes if path != GRAPHQL and not is_read(method, path)}
    assert len(writes) > 250 and len({path for _, path in routes}) > 300
    for method, path in sorted(writes):
        refused = client.request(method, path, json={}, auth=LOGINS["reader"])
        assert refused.status_code == 403, (method, path)
        assert refused.json()["error_code"] == "PERMISSION_DENIED" and "'reader'" in refused.json()["message"]
        assert client.request(method, path, json={}).status_code == 401, (method, path)
    kinds = "experiments/create runs/create registered-models/create model-versions/create registered-models/alias"
    assert {("POST", f"/api/2.0/mlflow/{kind}") for kind in kinds.split()} <= writes
    for method, path in (
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/x"),
        ("DELETE", "/api/2.0/mlflow-artifacts/artifacts/x"),
        ("POST", "/api/2.0/mlflow-artifacts/mpu/create/x"),
        ("POST", "/api/2.0/mlflow-artifacts/mpu/complete/x"),
        ("POST", "/api/2.0/mlflow-artifacts/mpu/abort/x"),
        ("POST", "/api/2.0/mlflow/artifacts/presigned-upload-url"),
        ("PATCH", "/api/2.0/mlflow/users/update-password"),
        ("POST", "/v1/traces"),
        ("POST", "/ajax-api/3.0/jobs/"),
        ("POST", "/gateway/x/mlflow/invocations"),
        ("GET", "/ajax-api/2.0/mlflow/gateway-proxy"),
    ):
        assert (method, path) in writes, (method, path)


def test_what_readers_may_ask_is_known_route_by_route(routes: set[tuple[str, str]]) -> None:
    reads = {(method, path) for method, path in routes if is_read(method, path)}
    posts = {re.sub(r"^/(ajax-)?api/\d\.\d/mlflow/", "", path) for method, path in reads if method != "GET"}
    assert posts == POSTS
    doing = re.compile(r"create|delete|update|set-|register-|log-|upload|restore|invoke|generate|add|remove|cancel")
    assert {path for method, path in reads if doing.search(path)} == set()


def test_paths_that_only_look_like_a_read_are_none() -> None:
    for path in (
        "/api/2.0/mlflow/runs/search/../create",
        "/api/2.0/mlflow/runs/search\n",
        "/x/api/2.0/mlflow/runs/search",
        "//api/2.0/mlflow/runs/search",
        "/api/2.0/mlflow/runs/search?x=1",
        "/api/2.0/mlflow-artifacts/mpu/create/api/2.0/mlflow/runs/search",
    ):
        assert not is_read("POST", path), path
    assert not any(is_read(method, "/api/2.0/mlflow/runs/search") for method in ("PUT", "PATCH", "DELETE", "BREW"))


def test_graphql_answers_queries_and_refuses_mutations_to_readers(client: TestClient) -> None:
    mutation = {"query": 'mutation { testMutation(inputString: "x") { output } }'}
    hidden = {"query": 'query a { __typename } mutation b { testMutation(inputString: "x") { output } }'}
    for method in ("POST", "GET"):
        for body in (mutation, hidden, {"query": "no graphql {"}, {}, []):
            assert client.request(method, GRAPHQL, json=body, auth=LOGINS["reader"]).status_code == 403, body
    assert client.post(GRAPHQL, json=mutation, auth=LOGINS["worker"]).status_code == 200
    asked = {"query": "query MlflowGetExperiment { __typename }"}
    answered = client.post(GRAPHQL, json=asked, auth=LOGINS["reader"])
    assert (answered.status_code, answered.json()["data"]) == (200, {"__typename": "Query"})
    assert client.post(GRAPHQL, json=asked).status_code == 401
    assert not only_queries(b'{"query": "' + b"{a" * 100_000 + b'"}')


def test_logins(client: TestClient) -> None:
    create, page = "/api/2.0/mlflow/users/create", "/"
    user = {"username": "another", "password": "password-of-another"}
    assert client.get(page).status_code == 401 and client.get("/health").status_code == 200
    assert client.get(page, auth=LOGINS["reader"]).status_code == 200
    wrong = ("worker", "password-of-reader")
    for headers in ({"Authorization": "Basic ???"}, {"Authorization": "Bearer x"}, {"Authorization": "Basic eA=="}):
        assert client.post(create, json=user, headers=headers).status_code == 401
    assert client.post(create, json=user, auth=wrong).status_code == 401
    # MLflow's own checks come after: a writer is no administrator.
    assert client.post(create, json=user, auth=LOGINS["worker"]).status_code == 403
    assert client.post(create, json=user, auth=LOGINS["admin"]).status_code == 200
    # Who is not named in the file reads.
    assert client.post(create, json=user, auth=tuple(user.values())).status_code == 403
