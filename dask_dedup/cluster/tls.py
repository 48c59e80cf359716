"""TLS certificates of a cluster's scheduler, workers, client and dashboard.

Everyone who can connect to a cluster can run code on it. With TLS, both ends of a connection need a certificate of the
cluster's authority. Otherwise Dask refuses the connection.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dask_dedup.errors import InputError
from dask_dedup.hints import parameter

if TYPE_CHECKING:
    from distributed import Security

ROLES = ("scheduler", "worker", "client")
_DASHBOARD = "distributed.scheduler.dashboard.tls"


def load_security(ca_file: Path, cert: Path, key: Path | None = None) -> Security:
    """Return Dask security settings that use one certificate for scheduler, workers and client.

    All files are PEM. By default the key is in the certificate's file.
    """
    from distributed import Security

    # Absolute, because SLURM jobs start in other folders.
    security = Security(require_encryption=True, tls_ca_file=str(ca_file.absolute()))
    for role in ROLES:
        setattr(security, f"tls_{role}_cert", str(cert.absolute()))
        setattr(security, f"tls_{role}_key", str((key or cert).absolute()))
    return _checked(security)


def configured_security() -> Security | None:
    """Return the security settings in Dask's configuration, or None if TLS is not configured."""
    from distributed import Security

    security = Security()
    if not (security.require_encryption or security.tls_ca_file):
        return None
    security.require_encryption = True
    return _checked(security)


def _checked(security: Security) -> Security:
    """Check that TLS settings are complete and PEM files match. Without a key file, use the certificate file."""
    for role in ROLES:
        files = security.get_tls_config_for_role(role)
        if not (files["ca_file"] and files["cert"]):
            raise InputError(
                "Dask's configuration requires TLS but lacks distributed.comm.tls.ca-file or "
                f"distributed.comm.tls.{role}.cert. Add them, or pass {parameter('tls_ca_file')} and "
                f"{parameter('tls_cert')}."
            )
        # The key may be in the certificate's file, but a worker's command line needs the path of the key.
        if not files["key"]:
            files["key"] = files["cert"]
            setattr(security, f"tls_{role}_key", files["cert"])
        for part in ("ca_file", "cert", "key"):
            _check_readable(files[part])
        try:
            security.get_listen_args(role)
        except OSError as error:
            names = ", ".join(files[part] for part in ("ca_file", "cert", "key"))
            raise InputError(f"the TLS files {names} cannot be used together: {error}") from error
    return security


def _check_readable(path: str) -> None:
    try:
        Path(path).open("rb").close()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def dashboard_certificate(security: Security | None) -> dict[str, str]:
    """Return Dask settings that serve dashboards by https. Return {} without TLS, or if a certificate is configured."""
    import dask

    if security is None or dask.config.get(f"{_DASHBOARD}.cert"):
        return {}
    files = security.get_tls_config_for_role("scheduler")
    return {f"{_DASHBOARD}.{part}": files[part] for part in ("cert", "key")}


def dashboard_environment() -> dict[str, str]:
    """Return Dask's TLS settings for dashboards as environment variables, for other processes."""
    import dask

    prefix = f"DASK_{_DASHBOARD}".replace(".", "__").upper()
    settings = dask.config.get(_DASHBOARD)
    return {
        f"{prefix}__{part.replace('-', '_').upper()}": str(path)
        for part, path in settings.items()
        if path
    }
