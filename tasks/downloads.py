"""Downloads from the model hub: a few at a time over all machines."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from prefect.concurrency.sync import concurrency

LIMIT = "hub-downloads"


def hub_slot(url: str) -> AbstractContextManager[None]:
    """A slot of the concurrency limit for the time of a download, where `url` is the hub's; else nothing.

    Not a limit on a tag: Prefect 3.8.8 gives tagged task runs their slots for a hundred years, so a killed one keeps
    its slot. These slots are leases of five minutes, renewed while the task runs. Where the server has no such limit,
    there is none.
    """
    return concurrency(LIMIT) if url == "hub" or url.startswith("hf://") else nullcontext()
