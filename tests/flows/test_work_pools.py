"""What `make deploy` declares before deployments."""

from collections.abc import Iterator

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate, WorkPoolUpdate
from prefect.testing.utilities import prefect_test_harness

from deploy import work_pools
from tasks.downloads import LIMIT, hub_slot


@pytest.fixture
def empty_server() -> Iterator[None]:
    """A Prefect server on which nothing was declared, unlike the one that the tests of flows share."""
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.mark.usefixtures("empty_server")
def test_pools_queues_and_limits_are_declared_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert work_pools.main() == 0
    said = capsys.readouterr().out
    assert all(f"work pool {name}: created" in said for name in work_pools.POOLS) and f"limit {LIMIT}: created" in said
    assert work_pools.main() == 0
    assert capsys.readouterr().out == "", "the second time there is nothing to do"

    with get_client(sync_client=True) as client:
        present = {pool.name: pool for pool in client.read_work_pools()}
        for name, pool in work_pools.POOLS.items():
            assert (present[name].type, present[name].description) == (pool["type"], pool["description"])
            assert present[name].base_job_template == pool.get("base_job_template", {})
        assert client.read_work_queue_by_name("gpu", work_pool_name="local").concurrency_limit == 1

        # What operators change stays, but for the job template, which follows its file.
        client.update_global_concurrency_limit(LIMIT, GlobalConcurrencyLimitUpdate(limit=9))
        client.update_work_pool("gpu-k8s", WorkPoolUpdate(base_job_template={}, is_paused=True))
        assert work_pools.main() == 0
        assert capsys.readouterr().out == "work pool gpu-k8s: job template updated\n"
        assert client.read_work_pool("gpu-k8s").is_paused
        assert client.read_global_concurrency_limit_by_name(LIMIT).limit == 9


@pytest.mark.usefixtures("api")
def test_a_pool_that_there_is_not_is_refused_with_the_choices(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIPELINE_GPU_POOL", "gpu-k8")
    assert work_pools.main() == 1
    said = capsys.readouterr().err
    assert "PIPELINE_GPU_POOL: no work pool gpu-k8: known are cpu, gpu, gpu-docker, gpu-k8s, local" in said
    assert "Did you mean gpu-k8s?" in said and "deploy/pools/gpu-k8.yaml" in said


@pytest.mark.usefixtures("api")
def test_only_downloads_from_the_hub_take_a_slot() -> None:
    work_pools.main()
    with get_client(sync_client=True) as client:

        def taken() -> int:
            return client.read_global_concurrency_limit_by_name(LIMIT).active_slots

        for url, slots in (("hf://datasets/a/b", 1), ("hub", 1), ("/mirror", 0), ("s3://bucket/pairs", 0)):
            with hub_slot(url):
                assert taken() == slots, url
            assert taken() == 0
