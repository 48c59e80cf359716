"""Check access to object stores before a run, and translate the errors of their libraries.

Each library of an object store has other errors. `store_errors` translates them into errors of a local file system,
such as `FileNotFoundError`. If the server does not answer, the new error is `RunError`.
"""

from __future__ import annotations

import errno
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dask_dedup.errors import DedupError, InputError, RunError, causes
from dask_dedup.storage.paths import at, is_remote
from dask_dedup.storage.protocols import endpoint, is_s3

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

#: The check makes fewer attempts than the run.
_QUICK_CONFIG = {
    "retries": {"mode": "standard", "max_attempts": 2},
    "connect_timeout": 5,
    "read_timeout": 20,
}

#: Top-level modules whose errors come from an object store.
_STORE_MODULES = re.compile("aiobotocore|botocore|aiohttp|httpx|httpcore|gcsfs|google|azure")

_BAD_CREDENTIALS = (
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "AuthorizationHeaderMalformed",
)
#: Parts of the class names of errors raised when no server answers.
_NO_ANSWER = re.compile("Connect|Timeout|SSL|HTTPClient|Resolve|Proxy|Payload|Disconnected")


def check_access(locations: Iterable[str | Path]) -> None:
    """Check that the object store of each location answers and grants access.

    Raise `InputError` if a library, bucket or permission is missing, `RunError` if the server does not answer.
    """
    for path in map(at, locations):
        if not is_remote(path):
            continue
        try:
            with store_errors(path):
                _send_small_request(path)
        except FileNotFoundError as error:
            if "bucket" in str(error.strerror):
                raise InputError(f"{path}: {error.strerror}") from error
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}") from error


def _send_small_request(path: Any) -> None:
    if not is_s3(path):
        path.fs.info(path.path)
        return
    import fsspec

    quick = fsspec.filesystem(
        "s3",
        endpoint_url=endpoint(),
        config_kwargs=_QUICK_CONFIG,
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    quick.retries = 1
    bucket, _, key = path.path.partition("/")
    try:
        # The error of a listing has the reason of a failure. The error of a single object has only a status code.
        quick.call_s3("list_objects_v2", Bucket=bucket, Prefix=key, MaxKeys=1)
    except PermissionError as error:
        if _code(error) in _BAD_CREDENTIALS or not key:
            raise
        # Reading an object may be allowed although listing is not.
        try:
            quick.info(path.path)
        except PermissionError:
            raise error from None


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Translate the errors of an object store's library. Errors of a local file system pass unchanged.

    The new errors are:

    - `FileNotFoundError`, `FileExistsError` or `PermissionError`, with the reason in ``strerror``;
    - `InputError` if the library is not installed;
    - `RunError` if the server does not answer or fails.
    """
    try:
        yield
    except (DedupError, FileExistsError):
        raise
    except ImportError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:
        translated = _translate(error, path) if is_remote(path) else None
        if translated is None:
            raise
        raise translated from error


def _translate(error: Exception, path: object) -> Exception | None:
    """Return the error to raise instead of `error`, or None if `error` is not from an object store."""
    code, origin = _code(error), _origin(error)
    name = type(origin or error).__name__
    message = " ".join(str(error).split()).rstrip(".")
    bucket = str(path).partition("://")[2].partition("/")[0]

    def refused(reason: str) -> PermissionError:
        return PermissionError(errno.EACCES, reason, str(path))

    if code == "NoSuchBucket":
        return FileNotFoundError(errno.ENOENT, f"there is no bucket {bucket}", str(path))
    if code in _BAD_CREDENTIALS:
        return refused(f"the server refuses the credentials ({code})")
    if isinstance(error, PermissionError):
        return refused(f"no permission ({code or message}, bucket {bucket})")
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "no such object", str(path))
    if "Credentials" in name or name == "ProfileNotFound":
        return refused(
            f"{message}. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    if code:
        return RunError(f"{path}: the server failed ({code}: {message})")
    if origin is None and not isinstance(error, TimeoutError):
        return None
    if _NO_ANSWER.search(name):
        server = (is_s3(str(path)) and endpoint()) or "the store"
        return RunError(f"{path}: no answer from {server} ({name})")
    return RunError(f"{path}: {name}: {message}")


def _code(error: BaseException) -> str:
    """Return the error code in an object store's response. Return "" if the error has no code."""
    for each in causes(error):
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def _origin(error: BaseException) -> BaseException | None:
    """Return the first cause of an error that is from an object store's library, or None."""
    modules = ((each, type(each).__module__.partition(".")[0]) for each in causes(error))
    return next((each for each, module in modules if _STORE_MODULES.fullmatch(module)), None)
