"""`python -m deploy.stack.prefect_server ...` is `prefect server ...` whose writers wait for each other on SQLite.

Prefect 3.8.8 begins most transactions as readers. One that has read and then wants to write, while another one has
written in between, is refused at once, whatever the timeout ("database is locked", SQLITE_BUSY_SNAPSHOT): the server
answers 503, and what its services were about to store is stored late or not at all. Here a transaction of the server
takes the lock for writing when it begins, for which it waits as long as PREFECT_SERVER_DATABASE_TIMEOUT says.
"""

import sys
from contextlib import AbstractAsyncContextManager
from typing import Any

from prefect.server.database.configurations import AioSqliteConfiguration

_begin = AioSqliteConfiguration.begin_transaction


def begin_transaction(
    self: AioSqliteConfiguration, session: Any, with_for_update: bool = False
) -> AbstractAsyncContextManager[Any]:
    """Prefect's own, with BEGIN IMMEDIATE always."""
    return _begin(self, session, with_for_update=True)


def main() -> None:
    """Prefect's command line with the group `server`, in this process."""
    setattr(AioSqliteConfiguration, "begin_transaction", begin_transaction)  # noqa: B010  # methods are not assigned to
    from prefect.cli import app

    sys.argv = ["prefect", "server", *sys.argv[1:]]
    app()


if __name__ == "__main__":
    main()
