"""Object-store settings for the libraries `deltalake` and `pyiceberg`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dask_dedup.storage.protocols import endpoint, is_s3

if TYPE_CHECKING:
    from pathlib import Path


def delta_options(path: Path) -> dict[str, str]:
    """Return the S3 storage options that `deltalake` needs for a path, or {} for a local path."""
    options = _settings(
        path,
        "AWS_ENDPOINT_URL",
        "AWS_REGION",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
    )
    if options:
        # Two publishers must not write the same version. Stores without conditional writes raise an error.
        options["AWS_CONDITIONAL_PUT"] = "etag"
    if options.get("AWS_ENDPOINT_URL", "").startswith("http://"):
        options["AWS_ALLOW_HTTP"] = "true"
    return options


def iceberg_options(path: Path) -> dict[str, str]:
    """Return the S3 properties of `pyiceberg` for a path. The user's pyiceberg configuration overrides them."""
    names = ("endpoint", "region", "access-key-id", "secret-access-key", "session-token")
    return _settings(path, *(f"s3.{name}" for name in names))


def _settings(
    path: Path, server: str, region: str, key: str, secret: str, token: str
) -> dict[str, str]:
    """Map the given names to S3 settings. Leave out unset settings. Return {} for a local path.

    `botocore` also finds credentials in profiles. `deltalake` and `pyiceberg` search only environment
    variables and the IAM role of an AWS machine.
    """
    if not is_s3(path):
        return {}
    from botocore.session import get_session

    session = get_session()
    found = session.get_credentials()
    credentials = found.get_frozen_credentials() if found else None
    default = os.environ.get("AWS_REGION", "us-east-1")
    settings = {
        server: endpoint(),
        region: session.get_config_variable("region") or default,
        key: credentials and credentials.access_key,
        secret: credentials and credentials.secret_key,
        token: credentials and credentials.token,
    }
    return {name: value for name, value in settings.items() if value}
