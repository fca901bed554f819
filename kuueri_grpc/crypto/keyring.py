"""The keys that records are sealed under, as operators write them: `id:base64`, that for new records first.

The base64 is of 32 random bytes. A key without an id is known by one that is computed from it.
"""

import base64
import binascii
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Self

KEY_BYTES = 32
_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")
#: What generated ids are made of: every record has its key's id in it, so it is short.
_ID_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 6
_EXPECTED = "expected `id:base64` of 32 random bytes, as `kuueri keys generate` makes"


class KeysInvalid(ValueError):
    """A text that is no list of keys. The message says where and why, and shows nothing of it but ids."""


@dataclass(frozen=True, slots=True)
class EncryptionKey:
    """One key. `material`: 32 bytes, never shown."""

    key_id: str
    material: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        """Return a new random key with a random id."""
        key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))
        return cls(key_id, secrets.token_bytes(KEY_BYTES))

    @property
    def check_value(self) -> str:
        """What tells this key from another one of the same id, and helps nobody to find it."""
        return hmac.digest(self.material, b"kuueri-tasks key check", "sha256").hex()[:32]

    def reveal(self) -> str:
        """Return the key as it is written into a configuration."""
        return f"{self.key_id}:{base64.b64encode(self.material).decode()}"


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys of a process, at least one: the first seals what is new, each opens what it has sealed.

    Raises:
        KeysInvalid: there is none, or two of one id.
    """

    keys: tuple[EncryptionKey, ...]

    def __post_init__(self) -> None:
        ids = self.ids
        if not ids:
            raise KeysInvalid(f"there is no key in it; {_EXPECTED}")
        if len(set(ids)) < len(ids):
            twice = next(key_id for key_id in ids if ids.count(key_id) > 1)
            raise KeysInvalid(f"two keys have the id {twice!r}; expected an id of its own for each")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read keys that are separated by commas, blanks or line ends; `#` begins a comment.

        Raises:
            KeysInvalid: something in it is no key.
        """
        lines = (line.partition("#")[0] for line in text.splitlines())
        words = [word for line in lines for word in line.replace(",", " ").split()]
        return cls(tuple(_parse(word, place) for place, word in enumerate(words, 1)))

    @property
    def newest(self) -> EncryptionKey:
        """The key for new records."""
        return self.keys[0]

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all keys, the newest first."""
        return tuple(key.key_id for key in self.keys)

    def find(self, key_id: str) -> EncryptionKey | None:
        """Return the key of that id, None if it is not here."""
        return next((key for key in self.keys if key.key_id == key_id), None)

    def behind(self, key: EncryptionKey) -> Self:
        """Return the keyring whose newest key is `key`."""
        return type(self)((key, *(kept for kept in self.keys if kept != key)))

    def with_older(self, other: "Keyring") -> Self:
        """Return this keyring with those keys of another one behind it whose ids it has not."""
        return type(self)((*self.keys, *(key for key in other.keys if key.key_id not in self.ids)))

    def reveal(self) -> str:
        """Return the keys as they are written into a configuration."""
        return ",".join(key.reveal() for key in self.keys)


def _parse(word: str, place: int) -> EncryptionKey:
    key_id, separator, encoded = word.rpartition(":")
    if separator and not _ID.fullmatch(key_id):
        raise KeysInvalid(f"the id of key {place} is not 1-32 of A-Z, a-z, 0-9, _ and -; {_EXPECTED}")
    named = f"key {place}" + (f" ({key_id})" if separator else "")
    try:
        # Either alphabet; whoever copies a key may lose its padding.
        standard = encoded.translate(str.maketrans("-_", "+/")).rstrip("=")
        material = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        # Not chained: what does not parse may still be most of a key.
        raise KeysInvalid(f"{named} is not base64; {_EXPECTED}") from None
    if len(material) != KEY_BYTES:
        raise KeysInvalid(f"{named} has {len(material)} bytes; {_EXPECTED}")
    if not separator:
        key_id = hmac.digest(material, b"kuueri-tasks key id", "sha256").hex()[:_ID_LENGTH]
    return EncryptionKey(key_id, material)
