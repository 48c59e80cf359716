"""Where files are: a path of a local file system, or of an object store if it is written as a URI.

Whatever `fsspec` speaks will do (``s3://``, ``gs://``, ``abfs://``, ...). Credentials come from where its own
libraries look for them: the environment, profiles, the machine's role; never from a URI.
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
#: What a query may hold that opens a door: signatures of Amazon, Azure and Google, keys, tokens.
_KEYS_IN_QUERY = re.compile(r"(?i)[?&;]([\w-]*(signature|credential|token|key|secret)[\w-]*|sig)=")
_WILDCARDS = re.compile(r"[*?\[\]]")
#: So often a request to an object store that is busy, out of order or away is made again by `botocore`, each time
#: after up to twice the time (20 s at most), and all of that once more by `s3fs`: about a minute in all.
S3_CONFIG = {
    "retries": {"mode": "standard", "max_attempts": 7},
    "connect_timeout": 10,
    "read_timeout": 60,
}
S3_ROUNDS = 2
#: Environment variables that name another server than Amazon's, in the order `botocore` heeds them.
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
#: The server of the job that a worker is at, which its own environment need not know.
_endpoint: ContextVar[str | None] = ContextVar("endpoint", default=None)


def at(location: str | Path) -> Path:
    """Give the path of a location; those of object stores behave like `pathlib.Path`.

    Raises
    ------
    InputError
        If a URI holds credentials or wildcards, or there is no library for any.
    """
    if not isinstance(location, str):
        if isinstance(location, Path) and _URI.match(str(location).replace(":/", "://", 1)):
            _check_open(str(location).replace(":/", "://", 1))
            raise InputError(f"{location}: a URI is to be given as text, not as a Path")
        return location
    if not _URI.match(location):
        return Path(location)
    _check_open(location)
    if location.startswith("file://"):
        return Path(unquote(location.removeprefix("file://")))
    if _WILDCARDS.search(location):
        raise InputError(f"{location}: wildcards are not followed here; name a file or a folder")
    try:
        from upath import UPath

        place = UPath(location, **_options(location))
        if is_s3(location):
            place.fs.retries = S3_ROUNDS
        return cast("Path", place)
    except ImportError as error:
        raise InputError(
            f"{location}: places in object stores need a library: pip install 'dask-dedup[s3]'"
        ) from error
    except ValueError as error:
        raise InputError(f"{location}: not a place that can be read: {error}") from error


def listed(locations: Iterable[str | Path] | str | Path) -> list[str | Path]:
    """Give one location, or several, as a list."""
    if isinstance(locations, str) or not isinstance(locations, Iterable):
        return [locations]
    return list(locations)


def check_once(inputs: Iterable[str | Path]) -> None:
    """Refuse a table that is named twice: which of two equal rows stays would be a matter of chance.

    Raises
    ------
    InputError
    """
    seen = set()
    for given in inputs:
        table = resolve(at(given))
        if table in seen:
            raise InputError(f"{given}: is named twice as an input; name each table once")
        seen.add(table)


def _check_open(location: str) -> None:
    """Refuse a URI with anything in it that is not for everybody's eyes, and do not repeat it."""
    scheme, _, rest = location.partition("://")
    name, at_sign, _ = rest.rpartition("@")
    bucket = rest.partition("/")[0]
    # Azure has container@account; a colon stands in none of the names before it, nor in a bucket's.
    # Secret keys of Amazon's may hold slashes, so that an at sign anywhere is one too many.
    secret = (at_sign and (":" in name or scheme == "s3")) or (scheme == "s3" and ":" in bucket)
    if secret:
        shown = f"{scheme}://***"
    elif found := _KEYS_IN_QUERY.search(location):
        shown = f"{location[: found.start()]}?***"
    else:
        return
    raise InputError(
        f"{shown}: credentials do not belong into a URI, which ends up in logs and manifests; "
        "set them in the environment or a profile"
    )


def _options(location: str) -> dict[str, Any]:
    """Give what the library of an object store is told; of credentials it is told nothing."""
    # What others write meanwhile must be seen.
    options: dict[str, Any] = {"use_listings_cache": False}
    if is_s3(location):
        options |= {"config_kwargs": S3_CONFIG, "endpoint_url": endpoint()}
    return options


def is_s3(location: str | Path) -> bool:
    """Tell whether a location is in a store that speaks the protocol of Amazon S3."""
    return str(location).startswith(("s3://", "s3a://"))


def is_remote(path: Path) -> bool:
    """Tell whether a path is of an object store: there, files appear whole, but nothing can be renamed."""
    return not isinstance(path, Path)


def resolve(path: Path) -> Path:
    """Give the one way to write a path."""
    return path if is_remote(path) else path.resolve()


def endpoint() -> str | None:
    """Give the server that requests for ``s3://`` go to, where that is not Amazon's or a profile's."""
    url = _endpoint.get() or next((os.environ[n] for n in ENDPOINTS if os.environ.get(n)), None)
    if url:
        _check_endpoint(url)
    return url


def use_endpoint(url: str | None) -> None:
    """Send requests for ``s3://`` to another server than Amazon's, in this process from here on.

    Raises
    ------
    InputError
        If that is no address, or one with credentials in it.
    """
    if url:
        _check_endpoint(url)
        os.environ[ENDPOINTS[0]] = url


def _check_endpoint(url: str) -> None:
    if "@" in url or _KEYS_IN_QUERY.search(url):
        raise InputError(
            "the endpoint ***: credentials do not belong into it; "
            "set them in the environment or a profile"
        )
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InputError(f"the endpoint {url}: not an address such as https://minio.lab:9000")


@contextmanager
def using_endpoint(url: str | None) -> Iterator[None]:
    """Send requests for ``s3://`` made in here, in this thread, to another server than Amazon's."""
    token = _endpoint.set(url)
    try:
        yield
    finally:
        _endpoint.reset(token)
