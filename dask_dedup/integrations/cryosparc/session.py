"""Log in to a CryoSPARC instance with its client, cryosparc-tools, and translate the errors of the client.

The errors and warnings of the client can contain the password or the licence. So messages do not quote errors of the
login.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import logging
import os
import socket
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from dask_dedup.errors import DedupError, InputError, RunError, causes
from dask_dedup.formatting import printable
from dask_dedup.hints import parameter

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Default address of the instance.
_DEFAULT_URL = "http://localhost:39000"
#: Offset of the port of CryoSPARC 4's command service from the port of the web page.
_CORE_PORT = 2
#: Seconds to wait for a connection.
_TIMEOUT = 10.0
#: Longest text of the client's errors in messages, in characters.
_LENGTH = 300
_USER = ("CRYOSPARC_EMAIL", "CRYOSPARC_PASSWORD")
_LICENCE = "CRYOSPARC_LICENSE_ID"

log = logging.getLogger("dask_dedup")


def log_in(url: str | None = None) -> Any:
    """Return the client of an instance, ``cryosparc.tools.CryoSPARC`` of version 4.7 or 5, logged in.

    Parameters
    ----------
    url : str, optional
        Address of the instance, as in the browser. By default, the address in CRYOSPARC_BASE_URL, or in
        CRYOSPARC_MASTER_HOSTNAME and CRYOSPARC_BASE_PORT, or http://localhost:39000.

    Raises
    ------
    InputError
        If the library is missing, the instance does not answer, or it refuses the login.
    """
    try:
        client = importlib.import_module("cryosparc.tools").CryoSPARC
    except ImportError as error:
        raise InputError(
            "the client of CryoSPARC is not installed. Install the client for the instance's version, such as: "
            f"pip install 'cryosparc-tools~=5.0.0' ({error})"
        ) from error
    address = _find_address(url)
    is_rest = "base_url" in inspect.signature(client).parameters
    user = {name: os.environ.get(name, "") for name in (*_USER, _LICENCE)}
    given: dict[str, Any] = {"email": user[_USER[0]], "password": user[_USER[1]]}
    if is_rest:
        given |= {"base_url": address, "host": None, "base_port": None}
    else:
        missing = [name for name, value in user.items() if not value]
        if missing:
            raise InputError(f"{address}: no login. Set {', '.join(missing)} in the environment.")
        place = urlsplit(address)
        given |= {"host": place.hostname, "base_port": place.port or 39000}
        given["license"] = user[_LICENCE]
    _check_answers(address, 0 if is_rest else _CORE_PORT)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            session = client(**given)
        except Exception as error:  # noqa: BLE001 (its text can hold secrets)
            raise _explain_login(error, address) from None
    for warning in caught:
        if "compatible" in str(warning.message):
            log.warning("%s", str(warning.message).splitlines()[0])
    return session


def _find_address(url: str | None) -> str:
    host = os.environ.get("CRYOSPARC_MASTER_HOSTNAME")
    port = os.environ.get("CRYOSPARC_BASE_PORT")
    address = url or os.environ.get("CRYOSPARC_BASE_URL")
    if not address and (host or port):
        address = f"http://{host or 'localhost'}:{port or 39000}"
    address = address or _DEFAULT_URL
    address = address if "://" in address else f"http://{address}"
    try:
        place = urlsplit(address)
        usable = place.scheme in ("http", "https") and place.hostname and (place.port or 1)
    except ValueError:
        usable = False
    if not usable or place.password:
        raise InputError(
            f"{parameter('url')} is not the address of a CryoSPARC instance. Write it as in the browser, such as "
            f"{_DEFAULT_URL}."
        )
    return address


def _check_answers(address: str, above: int) -> None:
    """Raise InputError if no program listens at the address. The client of version 4 would try for a minute."""
    place = urlsplit(address)
    if place.scheme in getproxies():
        return
    port = (place.port or (443 if place.scheme == "https" else 80)) + above
    try:
        socket.create_connection((place.hostname or "", port), _TIMEOUT).close()
    except OSError as error:
        raise InputError(
            f"{address}: no CryoSPARC instance answers at port {port} ({error.strerror or error}). "
            f"Check the address ({parameter('url')}, CRYOSPARC_BASE_URL), and that the instance runs."
        ) from None


def _explain_login(error: Exception, address: str) -> InputError:
    found = [getattr(each, "code", None) for each in causes(error)]
    codes = [code for code in found if isinstance(code, int)]
    if type(error) is ValueError and not codes:
        return InputError(
            f"{address}: no login. Run: python -m cryosparc.tools login, with this address, or set "
            f"{' and '.join(_USER)} in the environment."
        )
    if {401, 403} & {*codes} or isinstance(error, AssertionError):
        return InputError(
            f"{address}: CryoSPARC refused the login. Check {', '.join(_USER)} and, for CryoSPARC 4, {_LICENCE} in "
            "the environment, or log in again: python -m cryosparc.tools login"
        )
    first = [*causes(error)][-1]
    reason = f"{type(first).__name__}{f', code {codes[0]}' if codes else ''}"
    return InputError(
        f"{address}: the login failed ({reason}). Check that this is a CryoSPARC instance, and that "
        "cryosparc-tools has its minor version."
    )


@contextmanager
def client_errors(what: str, kind: type[DedupError] = RunError) -> Iterator[None]:
    """Convert errors of the client to `kind`, with `what` and the reason in the message. Silence its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except DedupError:
            raise
        except Exception as error:
            raise kind(f"{what} CryoSPARC reports: {reason_of(error)}") from error


def reason_of(error: BaseException) -> str:
    """Return the message of an error on one line, shortened, without the secrets of the environment."""
    data = getattr(error, "data", None)
    detail = data.get("detail") if isinstance(data, dict) else None
    text = detail if isinstance(detail, str) else str(error) or type(error).__name__
    text = without_secrets(" ".join(text.split()))
    return printable(text if len(text) <= _LENGTH else f"{text[:_LENGTH]}...")


def without_secrets(text: str) -> str:
    """Replace the password, its hash and the licence in a text."""
    password = os.environ.get("CRYOSPARC_PASSWORD", "")
    hashed = hashlib.sha256(password.encode()).hexdigest()
    for secret in (password, hashed, os.environ.get(_LICENCE, "")):
        text = text.replace(secret, "***") if secret else text
    return text
