"""A certificate authority, as a facility creates one for its cluster."""

from __future__ import annotations

import datetime
import ipaddress
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


class Authority:
    """A self-signed authority and one certificate from it for this machine, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.ca, self.certificate, self.key = (
            folder / name for name in ("ca.pem", "node.pem", "node.key")
        )
        pytest.importorskip("cryptography")
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID

        root_key, node_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        root, node = (
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("root", "node")
        )
        known = x509.SubjectKeyIdentifier.from_public_key(root_key.public_key())
        issued = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known)
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        root_builder = _certificate(root, root, root_key.public_key())
        basic = x509.BasicConstraints(ca=True, path_length=None)
        root_builder = root_builder.add_extension(basic, critical=True).add_extension(
            known, critical=False
        )
        node_builder = _certificate(node, root, node_key.public_key())
        node_builder = node_builder.add_extension(names, critical=False)
        node_builder = node_builder.add_extension(issued, critical=False)
        _write_certificate(self.ca, root_builder, root_key)
        _write_certificate(self.certificate, node_builder, root_key)
        _write_key(self.key, node_key)

    @property
    def options(self):
        """Options of `dask-dedup run`, `dask scheduler` and `dask worker`."""
        pairs = {"ca-file": self.ca, "cert": self.certificate, "key": self.key}
        return [word for name, path in pairs.items() for word in (f"--tls-{name}", str(path))]

    @property
    def configuration(self):
        """The same as keys of Dask's configuration."""
        pair = {"cert": str(self.certificate), "key": str(self.key)}
        return {
            "distributed.comm.require-encryption": True,
            "distributed.comm.tls.ca-file": str(self.ca),
            **{f"distributed.comm.tls.{role}": pair for role in ("scheduler", "worker", "client")},
        }


def _certificate(subject, issuer, key):
    from cryptography import x509

    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )


def _write_certificate(path, builder, key):
    from cryptography.hazmat.primitives import hashes, serialization

    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def _write_key(path, key):
    from cryptography.hazmat.primitives import serialization

    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
