"""Reads the configuration document from Google Cloud Secret Manager.

The client library is an optional extra and slow to import, so it is imported only when it is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.cloud.secretmanager import SecretManagerServiceClient

ACCESS_TIMEOUT_S = 10.0


class SecretError(Exception):
    """A secret could not be read. The message says which and why, and carries nothing of its content."""


def access_secret(version: str, key_filename: Path | None) -> str:
    """Read one version of a secret as text.

    Args:
        version: Resource name, `projects/PROJECT/secrets/SECRET/versions/VERSION`.
        key_filename: A service account's JSON key. None uses the credentials of the surroundings
            (Application Default Credentials), as on a Google Cloud machine.

    Raises:
        SecretError: The extra is not installed, the key does not load, or the service refused.
    """
    client = connect(key_filename)
    # After connect, which has found out that they are installed.
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError

    try:
        response = client.access_secret_version(name=version, timeout=ACCESS_TIMEOUT_S)
        return str(response.payload.data.decode())
    except (GoogleAPIError, GoogleAuthError) as error:
        raise SecretError(f"cannot read {version}: {error}") from error
    except UnicodeDecodeError:
        # Not chained: the exception holds the bytes.
        raise SecretError(f"cannot read {version}: its content is not UTF-8 text") from None


def connect(key_filename: Path | None) -> SecretManagerServiceClient:
    """Make a client with the given key, or with the credentials of the surroundings.

    Raises:
        SecretError: The extra is not installed, or no credentials could be loaded.
    """
    try:
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.secretmanager import SecretManagerServiceClient
    except ImportError:
        raise SecretError(
            "reading Secret Manager needs the extra 'gcp': pip install 'kuueri-tasks[gcp]'"
        ) from None

    try:
        if key_filename is None:
            return SecretManagerServiceClient()
        # Annotated, since the library's own method says Any.
        client: SecretManagerServiceClient
        client = SecretManagerServiceClient.from_service_account_file(str(key_filename))
    except OSError as error:
        raise SecretError(f"cannot read the service account key {key_filename}: {error.strerror}") from error
    except (GoogleAuthError, ValueError):
        source = "the surroundings" if key_filename is None else str(key_filename)
        # Not chained: what does not parse may still be part of a key.
        raise SecretError(f"no usable Google Cloud credentials in {source}") from None
    return client
