"""Certificates that a test makes: of a CA, of servers and of clients."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as PEM files that only this user can read."""

    certificate: Path
    key: Path


class Authority:
    """A CA in a folder of its own."""

    def __init__(self, folder: Path, key: ec.EllipticCurvePrivateKey, own: x509.Certificate):
        self._folder = folder
        self._key = key
        self._own = own
        self.file = folder / "ca.pem"
        self.file.write_bytes(own.public_bytes(serialization.Encoding.PEM))

    @classmethod
    def create(cls, folder: Path, *, name: str = "the CA") -> Self:
        folder.mkdir()
        key = ec.generate_private_key(ec.SECP256R1())
        own = _name(name)
        builder = _builder(own, own, key.public_key(), days=30).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        return cls(folder, key, builder.sign(key, hashes.SHA256()))

    def issue(
        self, common_name: str, *, hosts: tuple[str, ...] = (), days: int = 30
    ) -> Certificate:
        """A certificate.

        :param hosts: the names of a server; none for a client.
        :param days: until it expires; negative: since it has.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(common_name), self._own.subject, key.public_key(), days=days)
        if hosts:
            names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        made = builder.sign(self._key, hashes.SHA256())
        place = self._folder / f"{common_name}{days}"
        files = Certificate(place.with_suffix(".crt"), place.with_suffix(".key"))
        files.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        files.key.touch(mode=0o600)
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 60 * _DAY)
        .not_valid_after(now + days * _DAY)
    )
