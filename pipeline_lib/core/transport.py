"""What can go wrong on the way to a URL. Each file system raises its HTTP client's exceptions, not only OSError."""

from __future__ import annotations


def transport_errors(url: str) -> tuple[type[Exception], ...]:
    """The exceptions that mean "cannot be reached, read or written" for this URL's file system."""
    if url.startswith("s3://"):
        from aiohttp import ClientError
        from botocore.exceptions import BotoCoreError

        return OSError, BotoCoreError, ClientError
    if url.startswith("hf://"):
        from huggingface_hub.errors import HTTPError

        return OSError, HTTPError
    return (OSError,)


def is_transport_error(error: BaseException | None) -> bool:
    """Whether an exception means "cannot be reached, read or written" for any file system."""
    return isinstance(error, (*transport_errors("s3://"), *transport_errors("hf://")))
