"""The work pool of deployments that want a GPU: `python -m deploy.work_pools` creates it when it is not there.

PIPELINE_GPU_POOL names it. The local stack's own pool is its worker's business.
"""

import os
import sys

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists

from deploy.stack.settings import WORK_POOL


def main() -> int:
    name = os.environ.get("PIPELINE_GPU_POOL", WORK_POOL)
    if name == WORK_POOL:
        return 0
    with get_client(sync_client=True) as client:
        try:
            # Without a template: the first worker brings that of its version.
            client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template={}))
        except ObjectAlreadyExists:
            return 0
    print(f"work pool {name}: created; serve it with `prefect worker start --pool {name} --type process --limit 1`")
    return 0


if __name__ == "__main__":
    sys.exit(main())
