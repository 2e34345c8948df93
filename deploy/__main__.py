"""`python -m deploy` declares all that the server needs, in one process: what `make deploy` runs.

Work pools and limits, automations, deployments and their schedules. It may run again at any time.
"""

import sys

from deploy import automations, deployments, work_pools


def main() -> int:
    """Declare all of it; the exit status of the first that fails."""
    return work_pools.main() or automations.main() or deployments.main()


if __name__ == "__main__":
    sys.exit(main())
