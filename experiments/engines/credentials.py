"""Certificates and keys of a deployment: one CA, the SuperLink's certificate, a key per SuperNode.

Several hosts::

    python -m experiments.engines.credentials FOLDER --host 10.0.0.5 --nodes 3

Whoever has ``ca.key`` can issue certificates, so it stays in memory and is thrown away: new hosts
mean new credentials.
"""

from __future__ import annotations

import argparse
import ipaddress
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedfuse.errors import ConfigError

CA, CERTIFICATE, KEY = "ca.crt", "server.pem", "server.key"
LOOPBACK = "127.0.0.1"
NOT_FOR = (
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "encipher_only",
    "decipher_only",
)


def issue(folder: Path, hosts: Sequence[str], num_nodes: int, days: float = 365) -> None:
    """Write a CA certificate, a server certificate for ``hosts`` and ``num_nodes`` node keys.

    Args:
        folder: Where to; ``node-0`` and ``node-0.pub`` are the first SuperNode's.
        hosts: Addresses or names under which the SuperLink is reached.
        num_nodes: SuperNodes.
        days: How long the certificates are valid.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    ca_key, key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedfuse CA")])
    begin = datetime.now(UTC) - timedelta(minutes=5)
    end = max(begin + timedelta(days=days), begin + timedelta(seconds=1))
    draft = x509.CertificateBuilder().issuer_name(issuer).not_valid_before(begin)
    draft = draft.not_valid_after(end)
    usage = dict.fromkeys(NOT_FOR, False)
    ca = (
        draft.subject_name(issuer)
        .public_key(ca_key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **usage),
            critical=True,
        )
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA384())
    )
    server = (
        draft.subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_name(host) for host in hosts]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA384())
    )
    _write(folder / CA, ca.public_bytes(serialization.Encoding.PEM))
    _write(folder / CERTIFICATE, server.public_bytes(serialization.Encoding.PEM))
    _write(folder / KEY, _private(key, serialization.PrivateFormat.TraditionalOpenSSL))
    for node in range(num_nodes):
        node_key = ec.generate_private_key(ec.SECP384R1())
        _write(folder / f"node-{node}", _private(node_key, serialization.PrivateFormat.OpenSSH))
        public = node_key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        _write(folder / f"node-{node}.pub", public)


def check(folder: Path, host: str, num_nodes: int) -> None:
    """Refuse credentials with which SuperLink and SuperNodes would not talk.

    Raises:
        ConfigError: If a file is missing or unreadable, or the certificate is expired, not the
            CA's, or not for ``host``.
    """
    next_step = (
        "Leave engine.credentials out, or issue new ones: "
        "python -m experiments.engines.credentials FOLDER"
    )
    names = [
        CA,
        CERTIFICATE,
        KEY,
        *(f"node-{i}{end}" for i in range(num_nodes) for end in ("", ".pub")),
    ]
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ConfigError(
            f"engine.credentials: {folder} lacks files",
            got=f"no {', '.join(missing)}",
            next_step=next_step,
        )
    try:
        ca, server = (
            x509.load_pem_x509_certificate((folder / name).read_bytes())
            for name in (CA, CERTIFICATE)
        )
        own = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound) as error:
        raise ConfigError(
            f"engine.credentials: a certificate in {folder} cannot be read",
            got=error,
            next_step=next_step,
        ) from error
    for name, certificate in ((CA, ca), (CERTIFICATE, server)):
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if not begin <= datetime.now(UTC) <= end:
            raise ConfigError(
                f"engine.credentials: {folder / name} is not valid today",
                got=f"valid from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC",
                next_step=next_step,
            )
    try:
        server.verify_directly_issued_by(ca)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise ConfigError(
            f"engine.credentials: {folder / CERTIFICATE} was not issued by {folder / CA}.",
            next_step=next_step,
        ) from error
    key = serialization.load_pem_private_key((folder / KEY).read_bytes(), None)
    if key.public_key() != server.public_key():
        raise ConfigError(
            f"engine.credentials: {folder / KEY} is not the key of {folder / CERTIFICATE}.",
            next_step=next_step,
        )
    if _name(host) not in list(own):
        raise ConfigError(
            f"engine.credentials: {folder / CERTIFICATE} is for another host",
            got=", ".join(str(name.value) for name in own),
            allowed=host,
            next_step=next_step,
        )


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _private(key: ec.EllipticCurvePrivateKey, form: serialization.PrivateFormat) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def main(argv: Sequence[str] | None = None) -> int:
    """Issue credentials from the command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.engines.credentials")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--host", action="append", help="address or name of the SuperLink")
    parser.add_argument("--nodes", type=int, default=3, help="number of SuperNodes")
    parser.add_argument("--days", type=float, default=365)
    args = parser.parse_args(argv)
    issue(args.folder, args.host or [LOOPBACK, "localhost"], args.nodes, args.days)
    sys.stdout.write(f"{args.folder}: {CA}, {CERTIFICATE}, {KEY} and {args.nodes} node keys\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
