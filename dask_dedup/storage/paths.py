"""Paths on a local file system or, for a URI, in an object store.

Any protocol of `fsspec` works (``s3://``, ``gs://``, ``abfs://``, ...). Its libraries find the credentials in
the environment, a profile or the machine's role. URIs with credentials are refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

from dask_dedup.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
#: Query parameters that hold secrets: signatures of Amazon, Azure and Google, keys, tokens.
_KEYS_IN_QUERY = re.compile(r"(?i)[?&;]([\w-]*(signature|credential|token|key|secret)[\w-]*|sig)=")
_WILDCARDS = re.compile(r"[*\[\]]|\?(?!version=\d+$)")
#: `botocore` repeats a failed request with growing delays of 20 s at most, and `s3fs` repeats all of that once:
#: about a minute in all.
S3_CONFIG = {
    "retries": {"mode": "standard", "max_attempts": 7},
    "connect_timeout": 10,
    "read_timeout": 60,
}
S3_ROUNDS = 2
#: Environment variables for the S3 endpoint, in `botocore`'s order of precedence.
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
#: The endpoint of the job a worker is working on; the worker's environment need not have it.
_endpoint: ContextVar[str | None] = ContextVar("endpoint", default=None)


def at(location: str | Path) -> Path:
    """Convert a location to a path. An object store's URI becomes a `UPath`, which behaves like `pathlib.Path`.

    Raise `InputError` if a URI holds credentials or wildcards, or its library is not installed.
    """
    if not isinstance(location, str):
        # `Path` has removed a slash.
        uri = str(location).replace(":/", "://", 1)
        if isinstance(location, Path) and _URI.match(uri):
            _check_no_secret(uri)
            raise InputError(f"{location}: a URI must be passed as str, not as Path.")
        return location
    if not _URI.match(location):
        return Path(location)
    _check_no_secret(location)
    if location.startswith("file://"):
        return Path(unquote(location.removeprefix("file://")))
    if _WILDCARDS.search(location):
        raise InputError(f"{location}: wildcards are not supported. Name a file or a folder.")
    try:
        from upath import UPath

        path = UPath(location, **_options(location))
        if is_s3(location):
            path.fs.retries = S3_ROUNDS
        return cast("Path", path)
    except ImportError as error:
        raise InputError(
            f"{location}: object stores need a library: pip install 'dask-dedup[s3]'"
        ) from error
    except ValueError as error:
        raise InputError(f"{location}: not a valid location: {error}") from error


def listed(locations: Iterable[str | Path] | str | Path) -> list[str | Path]:
    """Return a list of locations, given one location or several."""
    if isinstance(locations, str) or not isinstance(locations, Iterable):
        return [locations]
    return list(locations)


def _check_no_secret(location: str) -> None:
    """Raise an error if a URI contains credentials. The message does not repeat them."""
    scheme, _, rest = location.partition("://")
    name, at_sign, _ = rest.rpartition("@")
    bucket = rest.partition("/")[0]
    # Azure writes container@account; neither part, nor a bucket, contains a colon.
    # Amazon's secret keys may contain slashes, so an at sign anywhere in s3:// is suspect.
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


def _options(location: str) -> dict[str, Any]:
    """Return the `fsspec` options for the object store of a location."""
    # A cached listing would miss what other processes write.
    options: dict[str, Any] = {"use_listings_cache": False}
    if is_s3(location):
        options |= {"config_kwargs": S3_CONFIG, "endpoint_url": endpoint()}
    return options


def is_uri(location: str | Path) -> bool:
    """Return whether a location is in an object store: a URI, or a path made of one."""
    return not isinstance(location, str | Path) or _URI.match(str(location)) is not None


def is_s3(location: str | Path) -> bool:
    """Return whether a location is an S3 URI, ``s3://`` or ``s3a://``."""
    return str(location).startswith(("s3://", "s3a://"))


def is_remote(path: Path) -> bool:
    """Return whether a path is in an object store. Objects cannot be renamed."""
    return not isinstance(path, Path)


def resolve(path: Path) -> Path:
    """Resolve symbolic links in a local path. Return paths in object stores unchanged."""
    return path if is_remote(path) else path.resolve()


def under(folder: str, location: str) -> str:
    """Return a relative location as a path in `folder`. Return other locations, and all if `folder` is "", unchanged.

    Examples
    --------
    >>> under("/data", "a.star"), under("/data", "s3://lab/a.star"), under("", "a.star")
    ('/data/a.star', 's3://lab/a.star', 'a.star')
    """
    if not folder or _URI.match(location):
        return location
    return str(Path(folder, location))


def enclosing_folders(path: Path) -> tuple[Path, ...]:
    """Return the folders around a local path, the nearest first. Return none for a path in an object store."""
    return () if is_remote(path) else tuple(path.resolve().parents)


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
