"""Stopping work in other threads: signals, and so cancelling a flow run, reach the main thread only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Event

from pipeline_lib.training.launch.job import never

_asked: ContextVar[Callable[[], bool]] = ContextVar("asked_to_stop", default=never)


def asked_to_stop() -> bool:
    """Whether the work that this belongs to has been asked to stop; never, outside `stopped_together`."""
    return _asked.get()()


@contextmanager
def stopped_together() -> Iterator[None]:
    """Whatever was begun within is asked to stop when the body ends by an exception, SIGTERM's among them.

    Prefect's task runs have a copy of the context of whoever submitted them, and so do those below them.
    """
    end = Event()
    token = _asked.set(end.is_set)
    try:
        yield
    except BaseException:
        end.set()
        raise
    finally:
        _asked.reset(token)
