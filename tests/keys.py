"""The key that the tests' stores are sealed with, and how it reaches a server on an external store."""

from kuueri_grpc.crypto.keyring import EncryptionKey, Keyring
from kuueri_grpc.store.vault import Vault

KEYRING = Keyring((EncryptionKey("tests1", bytes(range(32))),))
VAULT = Vault(KEYRING)
#: For `kuueri serve --redis-url`; an embedded store makes a key of its own.
ENVIRONMENT = {"TASKS_SERVICE__CRYPTO__KEY": KEYRING.reveal()}
