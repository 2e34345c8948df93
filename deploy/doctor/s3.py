"""Whether a small object can be written, read and deleted on S3, where the store or MLflow's files are there."""

import uuid
from collections.abc import Iterator
from typing import Any

from deploy.doctor.findings import Finding, error, ok
from deploy.doctor.surroundings import Surroundings
from deploy.stack.components import ARTIFACTS_VARIABLE

CHECK = "s3"
TIMEOUT_S = 5.0
CONTENT = b"written by `make doctor`; may be deleted"
REMEDIES = {
    "NoSuchBucket": "make the bucket, or correct the name in {variable}",
    "InvalidAccessKeyId": "correct AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "correct AWS_SECRET_ACCESS_KEY",
    "AccessDenied": "allow s3:PutObject, s3:GetObject, s3:DeleteObject and s3:ListBucket on {url} to this key",
}


def s3(surroundings: Surroundings) -> Iterator[Finding]:
    """A line for each of PIPELINE_STORE and PIPELINE_ARTIFACTS that is an s3:// URL."""
    urls = {name: surroundings.variables.get(name, "").strip() for name in ("PIPELINE_STORE", ARTIFACTS_VARIABLE)}
    used = {name: url for name, url in urls.items() if url.startswith("s3://")}
    if not used:
        yield ok(CHECK, "not used")
    for name, url in used.items():
        yield probe(name, url)


def probe(variable: str, url: str) -> Finding:
    """Write, read, delete, with the keys and the endpoint of the environment."""
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    key = f"{prefix.strip('/')}/.doctor-{uuid.uuid4().hex}".lstrip("/")
    step = "written"
    try:
        client = _client()
        client.put_object(Bucket=bucket, Key=key, Body=CONTENT)
        step = "read"
        read = client.get_object(Bucket=bucket, Key=key)["Body"].read()
        step = "deleted"
        client.delete_object(Bucket=bucket, Key=key)
    except ClientError as problem:
        code = str(problem.response.get("Error", {}).get("Code", ""))
        remedy = REMEDIES.get(code, "check keys, bucket and the server's log").format(variable=variable, url=url)
        return error(CHECK, f"{variable}: nothing can be {step} at {url}: {code or problem}", remedy)
    except (BotoCoreError, ValueError) as problem:
        remedy = "check AWS_ENDPOINT_URL, the network, and AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY"
        return error(CHECK, f"{variable}: {url} cannot be used: {problem}", remedy)
    if read != CONTENT:
        return error(CHECK, f"{variable}: {url} gives back other bytes than were written", "check proxies and caches")
    return ok(CHECK, f"{variable}: {url} can be written, read and deleted from")


def _client() -> Any:
    from boto3.session import Session
    from botocore.config import Config

    limits = Config(connect_timeout=TIMEOUT_S, read_timeout=TIMEOUT_S, retries={"total_max_attempts": 1})
    return Session().client("s3", config=limits)  # boto3.client would remember keys, and threads share it
