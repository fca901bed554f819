"""The keys of the store that the settings name: configured, or made by the embedded store for itself."""

from pathlib import Path

from kuueri_grpc.config import Settings
from kuueri_grpc.crypto.keyring import EncryptionKey, Keyring, KeysInvalid
from kuueri_grpc.process.errors import StartError
from kuueri_grpc.store.key_file import KeyFile

_NO_KEY = (
    "the store needs a key, since what tasks send is kept encrypted. Make one with `kuueri keys generate`, "
    "and set it as SERVICE.CRYPTO.KEY (TASKS_SERVICE__CRYPTO__KEY in the environment) of every server on "
    "this store; keep a copy in a safe place, as nothing can be read without it"
)


def external_keys(settings: Settings) -> Keyring:
    """Return the keys that are configured.

    Raises:
        StartError: there are none; the text says how to make one.
    """
    keyring = settings.service.crypto.keyring
    if keyring is None:
        raise StartError(_NO_KEY)
    return keyring


def embedded_keys(settings: Settings, data_dir: Path) -> Keyring:
    """Return the keys that are configured, then those in the data directory; made there if there is none.

    Only whoever has the data directory to itself may call this.

    Raises:
        StartError: the file cannot be read or written, or has something else in it.
    """
    file = KeyFile(data_dir)
    keyring = _known_keys(settings, file)
    if keyring is None:
        keyring = Keyring((EncryptionKey.generate(),))
        keep_keys(file, keyring)
    return keyring


def present_keys(settings: Settings) -> Keyring:
    """Return the keys of the store that the settings name, as a server on it has them. Makes none.

    Raises:
        StartError: there are none, or the key file cannot be read.
    """
    if settings.redis_url is not None:
        return external_keys(settings)
    file = KeyFile(settings.data_dir)
    keyring = _known_keys(settings, file)
    if keyring is None:
        raise StartError(f"there is no key file {file.path}: no server was started on that directory yet")
    return keyring


def add_key(settings: Settings, key: EncryptionKey) -> Path:
    """Put a key in front of those of the embedded store; return the file that they are in.

    Raises:
        StartError: the store is not an embedded one that has been used, or the keys are configured.
    """
    if settings.redis_url is not None or settings.service.crypto.keyring is not None:
        raise StartError(
            "the keys are in SERVICE.CRYPTO.KEY: make one with `kuueri keys generate`, and put it there"
        )
    file = KeyFile(settings.data_dir)
    keep_keys(file, present_keys(settings).behind(key))
    return file.path


def kept_keys(file: KeyFile) -> Keyring | None:
    """Return what is in a key file; None where there is none. Raises `StartError`."""
    try:
        return file.read()
    except KeysInvalid as error:
        raise _unusable(file, str(error)) from None
    except OSError as error:
        raise _unusable(file, error.strerror) from error


def keep_keys(file: KeyFile, keyring: Keyring) -> None:
    """Write a key file. Raises `StartError`."""
    try:
        file.write(keyring)
    except OSError as error:
        raise _unusable(file, error.strerror) from error


def _known_keys(settings: Settings, file: KeyFile) -> Keyring | None:
    # What the file has opens what was sealed before one was configured.
    configured, kept = settings.service.crypto.keyring, kept_keys(file)
    return configured.with_older(kept) if configured and kept else configured or kept


def _unusable(file: KeyFile, why: str | None) -> StartError:
    return StartError(f"the key file {file.path} cannot be used: {why}")
