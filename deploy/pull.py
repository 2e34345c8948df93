"""The pull step of every deployment: where a worker finds the flows."""

from deploy.stack.settings import ROOT


def own_checkout() -> dict[str, str]:
    """The root of the checkout or image that this worker is installed from, whatever the deploying machine has.

    Returns:
        `directory`: Prefect changes to it; entry points are relative to it.
    """
    return {"directory": str(ROOT)}
