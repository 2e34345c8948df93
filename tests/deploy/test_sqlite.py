"""The local stack's SQLite files: writers wait for each other, and for nobody who reads."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy.exc import OperationalError

from deploy.stack import StackError
from deploy.stack.components import write_ahead
from deploy.stack.prefect_server import begin_transaction

Begin = Callable[..., AbstractAsyncContextManager[Any]]


async def reads_and_then_writes(begin: Begin, database: Path) -> list[int]:
    """One transaction reads and then writes, another one writes meanwhile; what the table holds in the end."""
    config = AioSqliteConfiguration(connection_url=f"sqlite+aiosqlite:///{database}", timeout=20.0)
    engine = await config.engine()

    async def first() -> None:
        async with await config.session(engine) as session, begin(config, session):
            await session.execute(sa.text("SELECT count(*) FROM numbers"))
            await asyncio.sleep(0.5)
            await session.execute(sa.text("INSERT INTO numbers VALUES (1)"))

    async def second() -> None:
        await asyncio.sleep(0.2)
        async with await config.session(engine) as session, begin(config, session):
            await session.execute(sa.text("INSERT INTO numbers VALUES (2)"))

    try:
        await asyncio.gather(first(), second())
    finally:
        await engine.dispose()
    with sqlite3.connect(database) as connection:
        return [number for (number,) in connection.execute("SELECT * FROM numbers ORDER BY number")]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "prefect.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE numbers (number INTEGER)")
    return path


def test_a_server_transaction_waits_where_prefects_own_is_refused(database: Path) -> None:
    with pytest.raises(OperationalError, match="database is locked"):  # the reason for ours: does it still hold?
        asyncio.run(reads_and_then_writes(AioSqliteConfiguration.begin_transaction, database))
    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM numbers")
    assert asyncio.run(reads_and_then_writes(begin_transaction, database)) == [1, 2]


def test_mlflows_database_lets_readers_read_while_somebody_writes(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    write_ahead(path)
    write_ahead(path)  # each time that the server is started
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE runs (name TEXT)")
    writing = sqlite3.connect(path, isolation_level=None)
    writing.execute("BEGIN EXCLUSIVE")
    writing.execute("INSERT INTO runs VALUES ('one')")
    reading = sqlite3.connect(path, timeout=0.0)
    assert list(reading.execute("SELECT * FROM runs")) == []
    writing.execute("COMMIT")
    assert list(reading.execute("SELECT * FROM runs")) == [("one",)]
    writing.close()
    reading.close()


def test_a_database_that_is_none_is_said_in_words(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_text("this is a text and not a database" * 100)
    with pytest.raises(StackError, match=rf"the database {path} cannot be opened: file is not a database"):
        write_ahead(path)
