"""The team's MLflow server: `mlflow server --app-name pipeline-auth` is MLflow's basic-auth whose readers only read.

In basic-auth whoever has a login may create experiments and registered models, and then owns what is in them. Here a
request passes for every login only where it is known to change nothing; the others need an administrator, or a user
that the file of MLFLOW_AUTH_CONFIG_PATH names:

    [pipeline]
    writers = worker

This wraps the whole server, so it also judges requests that MLflow itself forgets to; MLflow's own checks come after.
"""

from __future__ import annotations

import base64
import binascii
import configparser
import fcntl
import json
import os
import re
import tempfile
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse
from starlette.concurrency import run_in_threadpool

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Message, Receive, Send], Awaitable[None]]

_API = r"/(?:ajax-)?api/\d\.\d/mlflow/"
GRAPHQL = "/graphql"
READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# A proxy to a language model's provider and an assistant with a shell: what they do is not for MLflow's paths to say.
ACTING_GETS = re.compile(rf"/gateway/.*|{_API}(?:gateway-proxy|assistant(?:/.*)?)", re.DOTALL)
READ_POSTS = re.compile(
    rf"{_API}(?:artifacts/presigned-download-url|datasets/search|experiments/search(?:-datasets)?|issues/search"
    r"|logged-models/search|prompt-optimization/jobs/search|registered-models/get-latest-versions|runs/search"
    r"|traces/(?:batchGetInfos|calculate-filter-correlation|metrics|search))"
)
# The pages of MLflow ask by GraphQL; what is longer is not theirs.
GRAPHQL_BYTES = 1 << 18


class ReadersOnlyRead:
    """Passes on what is known to read, and everything of those who may write; refuses the rest with 401 or 403.

    Args:
        may_write: whether the user of a name and a password may, None where that is no login.
    """

    def __init__(self, app: Asgi, may_write: Callable[[str, str], bool | None]) -> None:
        self.app = app
        self.may_write = may_write

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        if scope["path"] == GRAPHQL:
            body, receive = await _beginning(receive)
            reads = only_queries(body)
        else:
            reads = is_read(scope["method"], scope["path"])
        if reads:
            return await self.app(scope, receive, send)
        login = _login(scope)
        allowed = await run_in_threadpool(self.may_write, *login) if login else None
        if allowed:
            return await self.app(scope, receive, send)
        if allowed is None:
            return await _refuse(send, 401, "UNAUTHENTICATED", "This needs a login: a user's name and password.")
        name = login[0] if login else ""
        await _refuse(send, 403, "PERMISSION_DENIED", f"MLflow's user {name!r} may read and pull, and change nothing.")


def create_app() -> Asgi:
    """What `mlflow server` runs; MLFLOW_AUTH_CONFIG_PATH names the file of its logins."""
    from mlflow.server import auth  # reads the environment

    config = configparser.ConfigParser()
    config.read(os.environ["MLFLOW_AUTH_CONFIG_PATH"])
    writers = frozenset(config.get("pipeline", "writers", fallback="").split())

    def may_write(name: str, password: str) -> bool | None:
        user = auth._authenticate_cached(name, password)
        return None if user is None else user.is_admin or user.username in writers

    # The server's processes start at the same time: the first one makes the tables and the administrator.
    with Path(tempfile.gettempdir(), f"mlflow-access-{os.getuid()}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return ReadersOnlyRead(auth.create_app(), may_write)


def is_read(method: str, path: str) -> bool:
    """Whether a call is known to change nothing; GraphQL's calls are judged by their content (`only_queries`)."""
    if method in READ_METHODS:
        return not ACTING_GETS.fullmatch(path)
    return method == "POST" and READ_POSTS.fullmatch(path) is not None


def only_queries(body: bytes) -> bool:
    """Whether a GraphQL request holds queries and nothing else."""
    try:
        document = parse(json.loads(body)["query"])
    except (ValueError, TypeError, LookupError, RecursionError, GraphQLError):
        return False
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    return bool(operations) and all(node.operation is OperationType.QUERY for node in operations)


def _login(scope: Message) -> tuple[str, str] | None:
    """Name and password of a basic Authorization header."""
    for key, value in scope["headers"]:
        if key.lower() == b"authorization":
            scheme, _, credentials = value.partition(b" ")
            try:
                name, colon, password = base64.b64decode(credentials, validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                return None
            return (name, password) if colon and scheme.lower() == b"basic" else None
    return None


async def _beginning(receive: Receive) -> tuple[bytes, Receive]:
    """A request's body, up to a bound, and a `receive` that gives it once more."""
    messages: list[Message] = []
    size, more = 0, True
    while more and size <= GRAPHQL_BYTES:
        messages.append(await receive())
        size += len(messages[-1].get("body", b""))
        more = messages[-1].get("more_body", False)

    async def again() -> Message:
        return messages.pop(0) if messages else await receive()

    body = b"" if more else b"".join(message.get("body", b"") for message in messages)
    return body, again


async def _refuse(send: Send, status: int, code: str, text: str) -> None:
    """Answer as MLflow does, so that its clients show the text."""
    headers = [(b"content-type", b"application/json")]
    headers += [(b"www-authenticate", b'Basic realm="mlflow"')] if status == 401 else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"error_code": code, "message": text}).encode()})
