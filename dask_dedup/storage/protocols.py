"""Protocols of object stores: the settings of their `fsspec` file systems, and URIs without credentials.

A protocol without settings here works with the defaults of its `fsspec` library.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from dask_dedup.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Query parameters that hold secrets: signatures of Amazon, Azure and Google, keys, tokens.
_KEYS_IN_QUERY = re.compile(r"(?i)[?&;]([\w-]*(signature|credential|token|key|secret)[\w-]*|sig)=")
#: `botocore` repeats a failed request with growing delays of 20 s at most. `s3fs` repeats these attempts once.
#: All attempts together take about a minute.
S3_CONFIG = {
    "retries": {"mode": "standard", "max_attempts": 7},
    "connect_timeout": 10,
    "read_timeout": 60,
}
S3_ROUNDS = 2
#: Environment variables for the S3 endpoint, in `botocore`'s order of precedence.
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
#: The endpoint of the worker's current job. It is not always in the worker's environment.
_endpoint: ContextVar[str | None] = ContextVar("endpoint", default=None)


def uri_path(uri: str) -> Path:
    """Return the `UPath` of an object store's URI, with the settings of its protocol."""
    from upath import UPath

    # A cached listing would miss files that other processes write.
    options: dict[str, Any] = {"use_listings_cache": False}
    if is_s3(uri):
        options |= {"config_kwargs": S3_CONFIG, "endpoint_url": endpoint()}
    path = UPath(uri, **options)
    if is_s3(uri):
        path.fs.retries = S3_ROUNDS
    return cast("Path", path)


def is_s3(location: str | Path) -> bool:
    """Return whether a location is an S3 URI, ``s3://`` or ``s3a://``."""
    return str(location).startswith(("s3://", "s3a://"))


def check_no_secret(location: str) -> None:
    """Raise an error if a URI contains credentials. The message does not repeat them."""
    scheme, _, rest = location.partition("://")
    name, at_sign, _ = rest.rpartition("@")
    bucket = rest.partition("/")[0]
    # Azure writes container@account. Container, account and bucket have no colon.
    # Amazon's secret keys can have slashes, so s3:// must not have an at sign anywhere.
    secret = (at_sign and (":" in name or scheme == "s3")) or (scheme == "s3" and ":" in bucket)
    if secret:
        shown = f"{scheme}://***"
    elif found := _KEYS_IN_QUERY.search(location):
        shown = f"{location[: found.start()]}?***"
    else:
        return
    raise InputError(
        f"{shown}: a URI must not hold credentials, because it ends up in logs and manifests. "
        "Set them in the environment or a profile."
    )


def endpoint() -> str | None:
    """Return the configured S3 endpoint URL, or None to use the default of AWS or of the profile."""
    url = _endpoint.get() or next((os.environ[n] for n in ENDPOINTS if os.environ.get(n)), None)
    return check_endpoint(url) if url else None


def check_endpoint(url: str) -> str:
    """Return an S3 endpoint URL unchanged. Raise `InputError` if it is invalid or holds credentials."""
    if "@" in url or _KEYS_IN_QUERY.search(url):
        raise InputError(
            "the endpoint *** must not hold credentials. Set them in the environment or a profile."
        )
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InputError(f"the endpoint {url} is not a URL such as https://minio.lab:9000.")
    return url


@contextmanager
def using_endpoint(url: str | None) -> Iterator[None]:
    """Use an S3 endpoint URL in this thread within the context."""
    token = _endpoint.set(url)
    try:
        yield
    finally:
        _endpoint.reset(token)
