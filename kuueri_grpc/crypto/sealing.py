"""How a record is sealed: AES-256-GCM, bound to its place.

    format (1) | length of key id (1) | key id | nonce (12) | ciphertext | tag (16)

Associated data are the head of the record (format and key id) and its place: a record that was moved to
another task, or that names another key, does not open.

Each place has an AES key of its own, HMAC-SHA256(key, place), so that the bound of random 96-bit nonces
(2^32 records under one AES key, NIST SP 800-38D, 8.3) is a bound of what is written to one place, which
is written once and again by a rotation, and not of all that a busy server accepts in its life.
"""

import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kuueri_grpc.crypto.keyring import EncryptionKey, Keyring

FORMAT = 1
_NONCE_BYTES = 12
_TAG_BYTES = 16


class NotOpened(Exception):
    """A record does not open: it was changed, it is another place's, or it is none."""


class KeyMissing(NotOpened):
    """A record is sealed under a key that is not in the keyring."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"it is sealed under the key {key_id!r}, which is not among this server's keys")
        self.key_id = key_id


class Sealer:
    """Seals with the newest key of a keyring, opens with any.

    `place`: where a record is kept, spelled so that no other place is spelled alike.
    """

    def __init__(self, keyring: Keyring) -> None:
        self._materials = {key.key_id.encode(): key.material for key in keyring.keys}
        self._newest = keyring.newest.material
        #: What every record under the newest key begins with, and no other.
        self.head = _head(keyring.newest)

    def seal(self, place: bytes, plaintext: bytes) -> bytes:
        """Return the record."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = _cipher(self._newest, place).encrypt(nonce, plaintext, self.head + place)
        return self.head + nonce + sealed

    def open(self, place: bytes, record: bytes) -> bytes:
        """Return what was sealed.

        Raises:
            KeyMissing: the key is not in the keyring.
            NotOpened: the record is damaged, or not of this place.
        """
        body = 2 + record[1] if len(record) > 1 else 0
        if not body or record[0] != FORMAT or len(record) < body + _NONCE_BYTES + _TAG_BYTES:
            raise NotOpened("it is not a sealed record of a format that this version knows")
        head, nonce = record[:body], record[body : body + _NONCE_BYTES]
        material = self._materials.get(head[2:])
        if material is None:
            raise KeyMissing(head[2:].decode("ascii", "replace"))
        try:
            return _cipher(material, place).decrypt(nonce, record[body + _NONCE_BYTES :], head + place)
        except InvalidTag:
            key_id = head[2:].decode()
            raise NotOpened(
                f"it does not open with the key {key_id!r}: it was changed, or is another's"
            ) from None

    def digests(self, text: bytes) -> list[str]:
        """Return a keyed digest of a text under each key, the newest first: equal texts can be told by it."""
        return [hmac.digest(m, b"digest\0" + text, "sha256").hex()[:32] for m in self._materials.values()]

    def number(self, text: bytes, numbers: int) -> int:
        """Return the number below `numbers` of a text; it takes the newest key to compute it."""
        return int.from_bytes(hmac.digest(self._newest, b"number\0" + text, "sha256")[:8]) % numbers


def _head(key: EncryptionKey) -> bytes:
    key_id = key.key_id.encode()
    return bytes((FORMAT, len(key_id))) + key_id


def _cipher(material: bytes, place: bytes) -> AESGCM:
    return AESGCM(hmac.digest(material, b"record\0" + place, "sha256"))
