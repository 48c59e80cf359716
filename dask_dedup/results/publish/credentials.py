"""How the libraries of lakes reach an object store: the same server and credentials that this program uses."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dask_dedup.storage.paths import endpoint, is_remote, is_s3

if TYPE_CHECKING:
    from pathlib import Path


def location(place: Path) -> str:
    """Give the URI, or the absolute path, of a place."""
    return str(place) if is_remote(place) else str(place.absolute())


def delta_options(place: Path) -> dict[str, str]:
    """Give the storage options of `deltalake` for a place.

    Its own library looks for credentials in the environment and the machine's role only; this adds what
    botocore finds, such as profiles.
    """
    if not _on_s3(place):
        return {}
    server = endpoint() or ""
    found = _credentials()
    options = {
        "AWS_ENDPOINT_URL": server,
        "AWS_ALLOW_HTTP": "true" if server.startswith("http://") else "",
        "AWS_REGION": found["region"],
        "AWS_ACCESS_KEY_ID": found["key"],
        "AWS_SECRET_ACCESS_KEY": found["secret"],
        "AWS_SESSION_TOKEN": found["token"],
        # Two publishers must not write one version; stores that know no conditional writes refuse.
        "AWS_CONDITIONAL_PUT": "etag",
    }
    return {name: value for name, value in options.items() if value}


def iceberg_options(place: Path) -> dict[str, str]:
    """Give the properties of `pyiceberg` for a place, where its own configuration is silent."""
    if not _on_s3(place):
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


def _on_s3(place: Path) -> bool:
    return is_remote(place) and is_s3(str(place))


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
