"""Connection settings of an object store, for the libraries of Delta and Iceberg."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dask_dedup.storage.paths import endpoint, is_s3

if TYPE_CHECKING:
    from pathlib import Path


def delta_options(path: Path) -> dict[str, str]:
    """Return the storage options of `deltalake` for a path.

    The library itself finds credentials in the environment and the machine's role only; botocore
    also finds profiles.
    """
    if not is_s3(path):
        return {}
    server, found = endpoint() or "", _credentials()
    options = {
        "AWS_ENDPOINT_URL": server,
        "AWS_ALLOW_HTTP": "true" if server.startswith("http://") else "",
        "AWS_REGION": found["region"],
        "AWS_ACCESS_KEY_ID": found["key"],
        "AWS_SECRET_ACCESS_KEY": found["secret"],
        "AWS_SESSION_TOKEN": found["token"],
        # Two publishers must not write the same version; stores without conditional writes refuse.
        "AWS_CONDITIONAL_PUT": "etag",
    }
    return {name: value for name, value in options.items() if value}


def iceberg_options(path: Path) -> dict[str, str]:
    """Return the properties of `pyiceberg` for a path, as defaults for its own configuration."""
    if not is_s3(path):
        return {}
    found = _credentials()
    options = {
        "s3.endpoint": endpoint() or "",
        "s3.region": found["region"],
        "s3.access-key-id": found["key"],
        "s3.secret-access-key": found["secret"],
        "s3.session-token": found["token"],
    }
    return {name: value for name, value in options.items() if value}


def _credentials() -> dict[str, str]:
    from botocore.session import get_session

    session = get_session()
    found = session.get_credentials()
    frozen = found.get_frozen_credentials() if found else None
    return {
        "region": session.get_config_variable("region")
        or os.environ.get("AWS_REGION", "us-east-1"),
        "key": (frozen.access_key if frozen else "") or "",
        "secret": (frozen.secret_key if frozen else "") or "",
        "token": (frozen.token if frozen else "") or "",
    }
