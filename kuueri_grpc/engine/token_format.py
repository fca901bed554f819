"""The form of a token: `kq_<key id>_<secret>_<checksum>`.

The key id begins with the project id, so a token leads to its project without an index; the secret is 256
random bits, so a fast hash of it is enough (there is nothing to guess); the checksum tells a mistyped
token from a revoked one without asking the store.
"""

import base64
import hashlib
import hmac
import secrets
import zlib

from kuueri_grpc.domain.errors import Unauthenticated

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_BASE62 = _ALPHABET + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PROJECT_ID_LENGTH = 16
_KEY_ID_LENGTH = _PROJECT_ID_LENGTH + 4
_SECRET_LENGTH = 43  # 62 ** 43 > 2 ** 256
_CHECKSUM_LENGTH = 6  # 62 ** 6 > 2 ** 32


def new_project_id() -> str:
    """Return a project id that nobody has."""
    return _random(_PROJECT_ID_LENGTH, _ALPHABET)


def new_token(project_id: str) -> tuple[str, str]:
    """Return a key id of the project and a token."""
    key_id = project_id + _random(_KEY_ID_LENGTH - _PROJECT_ID_LENGTH, _ALPHABET)
    body = f"kq_{key_id}_{_random(_SECRET_LENGTH, _BASE62)}"
    return key_id, f"{body}_{checksum(body)}"


def new_signing_secret() -> str:
    """Return a secret to sign requests with, as Standard Webhooks has it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def checksum(body: str) -> str:
    """Return what follows the last `_` of a token."""
    number = zlib.crc32(body.encode())
    digits = []
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_BASE62))
        digits.append(_BASE62[digit])
    return "".join(digits)


def key_id_of(token: str) -> str:
    """Return the key id of a token.

    Raises:
        Unauthenticated: it is malformed or mistyped.
    """
    parts = token.split("_")
    lengths = [len(part) for part in parts]
    if parts[0] != "kq" or lengths != [2, _KEY_ID_LENGTH, _SECRET_LENGTH, _CHECKSUM_LENGTH]:
        raise Unauthenticated("the token is malformed: expected kq_<key id>_<secret>_<checksum>")
    body, _, its_checksum = token.rpartition("_")
    if not hmac.compare_digest(checksum(body).encode(), its_checksum.encode()):
        raise Unauthenticated("the token is mistyped: its checksum does not match")
    return parts[1]


def project_id_of(key_id: str) -> str:
    """Return the project that a key id leads to."""
    return key_id[:_PROJECT_ID_LENGTH]


def digest(token: str) -> bytes:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode()).digest()


def _random(length: int, alphabet: str) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))
