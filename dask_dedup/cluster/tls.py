"""Who may talk to whom: certificates for scheduler, workers, client and dashboard of a cluster.

Everybody on a cluster runs what the others send, so who holds no certificate of the cluster's own
authority is to be refused. Dask checks it on both ends of a connection.
"""

from __future__ import annotations

import re
import ssl
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError, causes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Security

_DASHBOARD = "distributed.scheduler.dashboard.tls"


@dataclass(frozen=True)
class Credentials:
    """The authority that all of a cluster trust, and a certificate from it with its key.

    Attributes
    ----------
    authority, certificate : Path
        PEM files.
    key : Path or None
        None if it stands in the file of the certificate.
    """

    authority: Path
    certificate: Path
    key: Path | None = None

    def security(self) -> Security:
        """Give them in Dask's terms, as those of scheduler, workers and client alike.

        Raises
        ------
        InputError
            If they cannot be used.
        """
        from distributed import Security

        # Jobs start in folders of their own.
        authority, certificate = str(self.authority.absolute()), str(self.certificate.absolute())
        key = str((self.key or self.certificate).absolute())
        pairs: dict[str, str] = {}
        for role in ("scheduler", "worker", "client"):
            pairs |= {f"tls_{role}_cert": certificate, f"tls_{role}_key": key}
        security = Security(require_encryption=True, tls_ca_file=authority, **pairs)
        _check(security)
        return security


def configured() -> Security | None:
    """Give what Dask's configuration says of certificates, for a cluster that is to be started; None if nothing.

    Raises
    ------
    InputError
        If it cannot be used.
    """
    from distributed import Security

    security = Security()
    if not (security.require_encryption or security.tls_ca_file):
        return None
    security.require_encryption = True
    for role in ("scheduler", "worker", "client"):
        certificate = getattr(security, f"tls_{role}_cert")
        if not (security.tls_ca_file and certificate):
            raise InputError(
                "Dask's configuration wants TLS, but lacks distributed.comm.tls.ca-file or "
                f"distributed.comm.tls.{role}.cert; add them, or name --tls-ca-file and --tls-cert"
            )
        # A key may stand in the file of its certificate; on the command line of a worker it must be named.
        if getattr(security, f"tls_{role}_key") is None:
            setattr(security, f"tls_{role}_key", certificate)
    _check(security)
    return security


def _check(security: Security) -> None:
    for role in ("scheduler", "worker", "client"):
        files = security.get_tls_config_for_role(role)
        for name in ("ca_file", "cert", "key"):
            _check_readable(files[name])
        try:
            security.get_listen_args(role)
        except ssl.SSLError as error:
            raise InputError(
                f"the TLS files {files['ca_file']}, {files['cert']} and {files['key']} do not go together, "
                f"or are not PEM: {error}"
            ) from error


def _check_readable(path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise InputError(f"{path}: this TLS file cannot be read: {error.strerror}") from error


@contextmanager
def dashboard_with(security: Security | None) -> Iterator[None]:
    """Let the dashboards of what is started meanwhile speak https, unless the configuration has its own certificate."""
    import dask

    if security is None or dask.config.get(f"{_DASHBOARD}.cert"):
        yield
        return
    pair = security.get_tls_config_for_role("scheduler")
    with dask.config.set({f"{_DASHBOARD}.cert": pair["cert"], f"{_DASHBOARD}.key": pair["key"]}):
        yield


def dashboard_environment() -> dict[str, str]:
    """Give the environment with which workers elsewhere serve their pages as `dashboard_with` has it here."""
    import dask

    settings = {
        part: dask.config.get(f"{_DASHBOARD}.{part}") for part in ("ca-file", "cert", "key")
    }
    prefix = f"DASK_{_DASHBOARD.replace('.', '__')}__".upper()
    return {
        prefix + part.replace("-", "_").upper(): str(path)
        for part, path in settings.items()
        if path
    }


def why_refused(target: str, error: Exception) -> str | None:
    """Tell why a connection failed, and what to do, if that seems to be a matter of TLS.

    Parameters
    ----------
    target : str
        What was to be connected to.
    error : Exception
        What Dask raised.
    """
    words = str(error)
    options = "--tls-ca-file, --tls-cert and --tls-key, or in Dask's configuration"
    if isinstance(error, TypeError) and "ssl_context" in words:
        return (
            f"the scheduler at {target} speaks TLS: name the cluster's certificates with {options}"
        )
    if isinstance(error, RuntimeError) and "encryption required" in words:
        return (
            f"the scheduler at {target} is not encrypted, but certificates are given, or Dask's configuration "
            "requires encryption: name one at tls://"
        )
    reason = _of_tls(error)
    if reason is None and target.startswith("tls://") and _dropped(error):
        reason = "it closed the connection"
    if reason and ("WRONG_VERSION_NUMBER" in reason or "cannot convert" in reason):
        return f"the scheduler at {target} does not speak TLS: {reason}"
    if reason:
        return (
            f"the scheduler at {target} and this program do not accept each other's certificates ({reason}): "
            f"name those of the cluster with {options}"
        )
    if target.startswith("tcp://") and _dropped(error):
        return (
            f"the scheduler at {target} closed the connection at once; if it speaks TLS, name it tls://... "
            f"and the cluster's certificates with {options}"
        )
    return None


#: What OpenSSL says; and what Tornado does if a server without TLS was the first to speak.
_WORDS = r"\[SSL: [^\n]*|EOF occurred in violation of protocol|cannot convert to SSL"


def _of_tls(error: Exception) -> str | None:
    """Give what OpenSSL says, if it is at the bottom of an error; Dask passes it on as text at times."""
    for each in causes(error, contexts=True):
        found = re.search(_WORDS, str(each))
        if found:
            return found[0]
    return None


def _dropped(error: Exception) -> bool:
    return any(
        isinstance(each, ConnectionResetError) or "closed" in str(each)
        for each in causes(error, contexts=True)
    )
