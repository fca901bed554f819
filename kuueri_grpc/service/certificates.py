"""The server's certificates: PEM files, which are read anew when they have changed.

gRPC asks for news before each handshake, so nothing polls, and the next connection has the new certificate.
Connections that are open, and the streams on them, go on with what they began with.
"""

import errno
import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kuueri_grpc.ports import NO_TELEMETRY, Telemetry

_BEGIN = b"-----BEGIN CERTIFICATE-----"
#: Why a file cannot be read by a process that lacks something, whatever is in the file.
_LACKS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

_log = logging.getLogger(__name__)


class CertificateError(Exception):
    """A certificate or key cannot be used. The text names the file and what was expected, never a key."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where the certificates are. `client_ca` None: clients need no certificate."""

    cert: Path
    key: Path
    client_ca: Path | None = None


class Certificates:
    """What the files held when they were last in order.

    Files that are half written, or do not belong together, change nothing: they are logged and counted
    once, and read again when they have changed again.

    Raises:
        CertificateError: they are not in order from the start.
    """

    def __init__(self, files: CertificateFiles, telemetry: Telemetry = NO_TELEMETRY) -> None:
        self._files = files
        self._telemetry = telemetry
        # gRPC asks from threads of its own.
        self._lock = threading.Lock()
        self._versions = self._look()
        self._initial = _load(files)

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials that follow the files."""
        return grpc.dynamic_ssl_server_credentials(
            self._initial,
            self._renewed,  # type: ignore[arg-type]  # None says that there is no news
            require_client_authentication=self._files.client_ca is not None,
        )

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what has changed since the last call, None for nothing."""
        with self._lock:
            # Looked at before it is read: what is written in between is another change.
            versions, before = self._look(), self._versions
            if versions == before:
                return None
            self._versions = versions
            try:
                configuration = _load(self._files)
            except CertificateError as error:
                if isinstance(error.__cause__, OSError) and error.__cause__.errno in _LACKS:
                    self._versions = before  # the next handshake has them read again
                    return None
                self._telemetry.certificates_refused()
                _log.warning(
                    "certificates have changed and cannot be used, those of before stay in force: %s",
                    error,
                    extra={"event": "certificates_refused"},
                )
                return None
            self._telemetry.certificates_renewed()
            _log.info("certificates have changed", extra={"event": "certificates_renewed"})
            return configuration

    def _look(self) -> list[tuple[int, ...] | None]:
        files = (self._files.cert, self._files.key, self._files.client_ca)
        return [_version(path) for path in files if path is not None]


def _version(path: Path) -> tuple[int, ...] | None:
    """Return what differs when the file, or what a link leads to, is another; None: there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _load(files: CertificateFiles) -> grpc.ServerCertificateConfiguration:
    chain, key = _read(files.cert), _read(files.key)
    _check_pair(_certificates(chain, files.cert), _private_key(key, files.key), files)
    roots = None
    if files.client_ca is not None:
        roots = _read(files.client_ca)
        _certificates(roots, files.client_ca)
    return grpc.ssl_server_certificate_configuration([(key, chain)], roots)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"{path} cannot be read: {error.strerror}") from error


def _certificates(pem: bytes, path: Path) -> list[x509.Certificate]:
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError:
        certificates = []
    # One that breaks off is passed over by the parser.
    if not certificates or len(certificates) != pem.count(_BEGIN):
        raise CertificateError(f"{path} has no certificates in it, or broken ones; expected PEM")
    return certificates


def _private_key(pem: bytes, path: Path) -> RSAPrivateKey | EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError:
        raise CertificateError(f"the private key in {path} is encrypted; expected one that is not") from None
    except ValueError:
        # Not chained: nothing of what is in the file is to be shown.
        raise CertificateError(f"{path} has no private key in it, or a broken one; expected PEM") from None
    if not isinstance(key, RSAPrivateKey | EllipticCurvePrivateKey):
        raise CertificateError(
            f"the private key in {path} is not of a kind that gRPC knows; expected RSA or ECDSA"
        )
    return key


def _check_pair(
    chain: list[x509.Certificate], key: RSAPrivateKey | EllipticCurvePrivateKey, files: CertificateFiles
) -> None:
    certificate = chain[0]
    certified = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if certified != key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
        raise CertificateError(
            f"the private key in {files.key} is not that of the first certificate in {files.cert};"
            " expected the server's own certificate first, and the key that belongs to it"
        )
    if certificate.not_valid_after_utc < datetime.now(UTC):
        _log.warning(
            "the certificate in %s has expired: clients will refuse it",
            files.cert,
            extra={"event": "certificate_expired"},
        )
