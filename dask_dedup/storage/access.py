"""Whether an object store answers, lets one in, and has the bucket; and what to say where it does not."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dask_dedup.errors import DedupError, InputError, RunError, causes
from dask_dedup.storage.paths import at, endpoint, is_remote, is_s3

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

#: For the first look: who does not answer soon, is not there.
_QUICK = {
    "retries": {"mode": "standard", "max_attempts": 2},
    "connect_timeout": 5,
    "read_timeout": 20,
}

_LIBRARIES = {"s3": "'dask-dedup[s3]'", "s3a": "'dask-dedup[s3]'", "gs": "gcsfs", "gcs": "gcsfs"}
_LIBRARIES |= dict.fromkeys(("abfs", "abfss", "az"), "adlfs")

_REFUSED = (
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "AuthorizationHeaderMalformed",
)
_FORBIDDEN = ("AccessDenied", "AllAccessDisabled", "403", "401", "Unauthorized", "Forbidden")
_UNKNOWN = ("NoSuchKey", "NoSuchUpload", "404")
#: Class names of what `botocore`, and what carries its requests, raise where there is nobody.
_SILENT = ("Connect", "Timeout", "SSL", "HTTPClient", "Resolve", "Proxy", "Payload", "Disconnected")
_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"


def check_answers(locations: Iterable[str | Path]) -> None:
    """Look whether the object stores of some locations answer and let one in, before anything else is done.

    Raises
    ------
    InputError
        If there is no library, no such bucket, or no permission.
    RunError
        If nobody answers.
    """
    for location in locations:
        place = at(location)
        if is_remote(place):
            try:
                with telling(place):
                    _ask(place)
            except FileNotFoundError as error:
                if "bucket" in str(error.strerror):
                    raise InputError(f"{place}: {error.strerror}") from error
            except OSError as error:
                raise InputError(f"{place}: {error.strerror or error}") from error


def _ask(place: Any) -> None:
    """Ask for as little as possible."""
    if not is_s3(place):
        place.fs.info(place.path)
        return
    import fsspec

    quick = fsspec.filesystem(
        "s3",
        endpoint_url=endpoint(),
        config_kwargs=_QUICK,
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    quick.retries = 1
    bucket, _, key = place.path.partition("/")
    try:
        # The answer to this names what is wrong; to a question about one object there is but a number.
        quick.call_s3("list_objects_v2", Bucket=bucket, Prefix=key, MaxKeys=1)
    except PermissionError as error:
        if _code(error) not in _FORBIDDEN or not key:
            raise
        # One may be allowed to read an object, but not to list.
        try:
            quick.info(place.path)
        except PermissionError:
            raise error from None


@contextmanager
def telling(place: object) -> Iterator[None]:
    """Put what the libraries of object stores raise about a place into words.

    Raises
    ------
    FileNotFoundError, FileExistsError, PermissionError
        As a file system would, with the reason.
    RunError
        If the server is lost, or out of order.
    """
    try:
        yield
    except DedupError:
        raise
    except ImportError as error:
        scheme = str(place).partition(":")[0]
        library = _LIBRARIES.get(scheme)
        how = f": pip install {library}" if library else f" ({error})"
        raise InputError(f"{place}: no library to read {scheme}:// with{how}") from error
    except FileExistsError:
        raise
    except Exception as error:
        told = _translated(error, place)
        if told is None:
            raise
        raise told from error


@contextmanager
def in_words(refused: type[DedupError]) -> Iterator[None]:
    """Do as `telling` where it is not known what place it is about; what is no store's error passes.

    Parameters
    ----------
    refused : type
        What to raise where the store answers, but not as wished.
    """
    try:
        yield
    except DedupError:
        raise
    except Exception as error:
        if _origin(error) is None:
            raise
        told = _translated(error, "the object store")
        if told is None:
            raise
        if isinstance(told, OSError):
            raise refused(f"the object store says: {told.strerror}") from error
        raise told from error


def _translated(error: Exception, place: object) -> Exception | None:
    """Give what to raise in the place of a library's error; None if that says it well enough."""
    code, name = _code(error), type(_origin(error) or error).__name__
    message = " ".join(str(error).split()).rstrip(".")
    bucket = str(place).partition("://")[2].partition("/")[0]
    if code == "NoSuchBucket":
        return FileNotFoundError(errno.ENOENT, f"there is no bucket {bucket}", str(place))
    if code in _REFUSED:
        return PermissionError(
            errno.EACCES, f"the server refuses the credentials ({code})", str(place)
        )
    if code in _FORBIDDEN or isinstance(error, PermissionError):
        return PermissionError(
            errno.EACCES, f"no permission ({code or message}, bucket {bucket})", str(place)
        )
    if code in _UNKNOWN or isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "no such object", str(place))
    if "Credentials" in name or name == "ProfileNotFound":
        return PermissionError(errno.EACCES, f"{message}; {_CREDENTIALS}", str(place))
    if code:
        return RunError(f"{place}: the server cannot do its work ({code}: {message})")
    if _origin(error) is not None or isinstance(error, TimeoutError):
        if any(word in name for word in _SILENT):
            server = endpoint() or "the store"
            return RunError(
                f"{place}: no answer from {server if is_s3(str(place)) else 'the store'} ({name})"
            )
        return RunError(f"{place}: {name}: {message}")
    return None


def _code(error: BaseException) -> str:
    """Give the code by which the server told what is wrong."""
    for each in causes(error):
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def _origin(error: BaseException) -> BaseException | None:
    """Give the error of a library for object stores that is behind an error."""
    for each in causes(error):
        root = type(each).__module__.partition(".")[0]
        if root in (
            "botocore",
            "aiobotocore",
            "aiohttp",
            "httpx",
            "httpcore",
            "gcsfs",
            "google",
            "azure",
        ):
            return each
    return None
