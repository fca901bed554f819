"""The keys that the embedded store has made for itself, in a file of its data directory."""

import os
from pathlib import Path

from kuueri_grpc.crypto.keyring import Keyring
from kuueri_grpc.store.data_dir import sync_names

#: Name of the file in the data directory.
KEY_FILE_NAME = "encryption.keys"
_HEADER = """\
# What this store keeps is sealed with these keys, the first seals what is new. Without them it cannot be
# read: back this file up, and apart from the data, so that a copy of the one alone is of no use.
"""


class KeyFile:
    """`encryption.keys` in a data directory: a key a line, the newest first, for its owner alone."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / KEY_FILE_NAME

    def read(self) -> Keyring | None:
        """Return the keys; None where there is no file.

        Raises:
            KeysInvalid: something else is in it.
            OSError: it cannot be read.
        """
        try:
            return Keyring.parse(self.path.read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            return None

    def write(self, keyring: Keyring) -> None:
        """Put keys in the place of those that are there. After a crash it is one or the other, whole.

        Returns when it is on disk: nothing may be sealed with a key that could be lost.

        Raises:
            OSError: it cannot be written.
        """
        draft = self.path.with_name(f"{KEY_FILE_NAME}.new")
        draft.unlink(missing_ok=True)
        # Exclusively: a link that somebody left there would be followed otherwise.
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(_HEADER + "".join(f"{key.reveal()}\n" for key in keyring.keys))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)
        sync_names(self.path.parent)
