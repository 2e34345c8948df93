"""Addresses with a login in them are refused, and the refusal does not repeat it."""

from typing import Annotated

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from pipeline_lib.config import IngestConfig
from pipeline_lib.errors import ConfigError
from pipeline_lib.sources import open_source
from pipeline_lib.store import absolute, writer
from pipeline_lib.urls import PATTERN, refuse_login

FORM = TypeAdapter(Annotated[str, Field(pattern=PATTERN)])
SECRETS = [
    "s3://AKIA:planted@bucket/prefix",
    "s3://AKIA:pla/nted@bucket/prefix",
    "s3://planted@bucket",
    "https://user:planted@example.org/pairs",
    "hf://planted@datasets/org/name",
    "http://user:planted@[::1]:9000/x",
    "simplecache::s3://AKIA:planted@bucket",
]
PLAIN = [
    "/data/pairs",
    "~/a:b/c@d",
    "pairs",
    "s3://bucket",
    "s3://bucket/prefix@2",
    "hf://datasets/org/name@f602d48/train",
    "http://example.org:9000/a:b@c",
    "models:/balanced-sdxl@champion",
    "runs:/0123/model",
    "org/name@main",
    "shapes://pairs",
    "model/0123",
    "simplecache::s3://bucket/x",
    "file:///data",
]


@pytest.mark.parametrize("url", PLAIN)
def test_addresses_without_a_login_pass(url: str) -> None:
    assert refuse_login(url) == FORM.validate_python(url) == url


@pytest.mark.parametrize("url", SECRETS)
def test_a_login_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="AWS_SECRET_ACCESS_KEY") as refused:
        refuse_login(url)
    assert "planted" not in str(refused.value) and "nted" not in str(refused.value)
    with pytest.raises(ValidationError):
        FORM.validate_python(url)


def test_stores_and_sources_refuse_it() -> None:
    for use in (
        lambda: absolute(SECRETS[0]),
        lambda: writer(SECRETS[0], "labels", 1, {}),
        lambda: open_source(IngestConfig(source=SECRETS[4])),
    ):
        with pytest.raises(ConfigError, match="login"):
            use()
