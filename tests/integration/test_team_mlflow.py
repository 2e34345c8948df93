"""The team's MLflow server as its three kinds of users see it: a reader reads and pulls, a worker registers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pipeline_lib.core.config import BaseModel, TrainConfig
from pipeline_lib.core.errors import ConfigError, HubError
from tasks import champion, registry, tracking
from tests.integration.team_mlflow import login, status, team_server, writes

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

BASE = BaseModel(family="sd", repo="someone/else")
CODE = """
from pathlib import Path
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

Path({mark!r}).touch()

class Theirs(PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input

set_model(Theirs())
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with team_server(tmp_path_factory.mktemp("team")) as url:
        yield url


@pytest.fixture
def user(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process as the worker; a test becomes somebody else by `become`."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    become("worker", monkeypatch)
    yield
    mlflow.set_tracking_uri(None)


def become(name: str, patch: pytest.MonkeyPatch) -> MlflowClient:
    for key, value in login(name).items():
        patch.setenv(key, value)
    return tracking.client()


def registered(name: str, folder: Path) -> str:
    """A version that the worker registered."""
    (folder / "unet").mkdir(parents=True, exist_ok=True)
    (folder / "model_index.json").write_text("{}")
    (folder / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    run = tracking.training_run(name, f"key-of-{name}", BASE, TrainConfig(method="diffusion-dpo"))
    return registry.register(name, run, folder, {"eval/win_rate": 0.5}, {"of": name})


def test_a_reader_changes_nothing_and_reads_everything(
    address: str, user: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = registered("balanced-shapes", tmp_path / "ours")
    found = MlflowClient(address).get_model_version("balanced-shapes", version)
    logged = MlflowClient(address).get_logged_model(str(registry.logged_model("balanced-shapes", version)))
    run, experiment = str(logged.source_run_id), logged.experiment_id
    calls = writes("balanced-shapes", version, run, experiment, logged.model_id)
    assert len({(method, path) for method, path, _ in calls}) >= 45
    for method, path, body in calls:
        assert status(f"{address}{path}", "reader", body, method) == 403, (method, path)
        assert status(f"{address}{path}", None, body, method) == 401, (method, path)

    server = become("reader", monkeypatch)
    assert server.get_model_version_by_alias("balanced-shapes", "candidate").tags == found.tags
    assert [str(one.version) for one in server.search_model_versions("name = 'balanced-shapes'")] == [version]
    assert [str(one.name) for one in server.search_registered_models()] == ["balanced-shapes"]
    assert {one.name for one in server.search_experiments()} == {"Default", "balanced-shapes"}
    (seen,) = server.search_runs([experiment])
    assert seen.info.run_id == run and seen.data.metrics == {"eval/win_rate": 0.5}
    assert server.get_metric_history(run, "eval/win_rate") and server.list_artifacts(run) == []
    assert [one.model_id for one in server.search_logged_models([experiment])] == [logged.model_id]
    pulled = mlflow.artifacts.download_artifacts("models:/balanced-shapes@candidate", dst_path=str(tmp_path))
    assert Path(pulled, "unet/diffusion_pytorch_model.safetensors").read_bytes() == b"weights"


def test_a_reader_has_no_code_of_its_own_run_by_others_and_takes_no_name(
    address: str, user: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pyfunc under the name of a model to come, made the champion, which a worker's flow would have pulled."""
    there = registered("balanced-shapes", tmp_path / "there")
    mark = tmp_path / "ran"
    (tmp_path / "theirs.py").write_text(CODE.format(mark=str(mark)))
    theirs = become("reader", monkeypatch)
    refused = "PERMISSION_DENIED: MLflow's user 'reader' may read and pull, and change nothing"
    with pytest.raises(MlflowException, match=refused):
        theirs.create_registered_model("dpo-shapes")
    with pytest.raises(MlflowException, match=refused):
        theirs.create_experiment("theirs")
    with pytest.raises(MlflowException, match=refused):
        mlflow.pyfunc.log_model(name="m", python_model=str(tmp_path / "theirs.py"), registered_model_name="dpo-shapes")
    with pytest.raises(MlflowException, match=refused):
        theirs.set_registered_model_alias("balanced-shapes", "champion", there)
    mark.unlink(missing_ok=True)  # logging a model runs its code, here, in the reader's own process

    ours = become("worker", monkeypatch)
    assert "dpo-shapes" not in {model.name for model in ours.search_registered_models()}
    version = registered("dpo-shapes", tmp_path / "ours")
    assert registry.pinned("models:/dpo-shapes@candidate") == f"models:/dpo-shapes/{version}"
    assert not mark.exists()


def test_what_another_user_registered_is_used_once_somebody_vouches_for_it(
    address: str, user: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = registered("ours", tmp_path / "ours")
    run = tracking.training_run("ours", "key-of-ours", BASE, TrainConfig(method="diffusion-dpo"))
    become("admin", monkeypatch)
    theirs = registered("by-hand", tmp_path / "theirs")
    their_run = tracking.training_run("by-hand", "key-of-by-hand", BASE, TrainConfig(method="diffusion-dpo"))
    logged = registry.logged_model("by-hand", theirs)
    experiment = tracking.client().get_run(their_run).info.experiment_id

    become("worker", monkeypatch)
    assert registry.pinned("models:/ours@candidate") == f"models:/ours/{ours}"
    assert registry.pinned(f"runs:/{run}/model") == f"runs:/{run}/model"
    uris = [f"models:/by-hand/{theirs}", "models:/by-hand@candidate", "models:/by-hand/latest", f"models:/{logged}"]
    uris += [f"runs:/{their_run}/model", f"mlflow-artifacts:/{experiment}/{their_run}/artifacts"]
    for uri in uris:
        for use in (lambda uri=uri: registry.pinned(uri), lambda uri=uri: registry.download(uri, tmp_path / "got")):
            with pytest.raises(HubError, match=r"is another user's than 'worker' .*\n-> Have an administrator"):
                use()
    with pytest.raises(HubError, match="registered model 'by-hand'"):
        registry.register("by-hand", run, tmp_path / "ours", {}, {"of": "ours"})
    with pytest.raises(ConfigError, match="experiment 'by-hand' is another user's"):
        tracking.training_run("by-hand", "key-of-by-hand", BASE, TrainConfig(method="diffusion-dpo"))
    with pytest.raises(ConfigError, match="experiment 'by-hand' is another user's"):
        tracking.training_run("by-hand", "another-key", BASE, TrainConfig(method="diffusion-dpo"))
    with pytest.raises(HubError, match="registered model 'by-hand'"):
        champion.find_rival("by-hand", "digest")

    grant = {"username": "worker", "resource_type": "registered_model", "resource_id": "by-hand", "permission": "READ"}
    assert status(f"{address}/api/3.0/mlflow/users/permissions/grant", "worker", grant) == 403
    assert status(f"{address}/api/3.0/mlflow/users/permissions/grant", "admin", grant) == 200
    assert registry.pinned("models:/by-hand@candidate") == f"models:/by-hand/{theirs}"


def test_logins_and_the_worker(address: str, user: None) -> None:
    api = f"{address}/api/2.0/mlflow"
    search = f"{api}/experiments/search?max_results=1"
    answers = {name: status(search, name) for name in (None, "worker:wrong", "reader", "worker", "admin")}
    assert answers == {None: 401, "worker:wrong": 401, "reader": 200, "worker": 200, "admin": 200}
    create = f"{api}/registered-models/create"
    assert status(create, "worker:wrong", {"name": "x"}) == 401
    assert status(create, "admin", {"name": "theirs"}) == 200
    assert status(f"{api}/registered-models/set-tag", "worker", {"name": "theirs", "key": "a", "value": "b"}) == 403
    assert status(f"{api}/users/create", "worker", {"username": "me", "password": "a-long-password"}) == 403
