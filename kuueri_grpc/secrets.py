"""Reads the configuration document from Google Cloud Secret Manager.

The client library is an optional extra and slow to import, so it is imported only when it is used.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.cloud.secretmanager import SecretManagerServiceClient

ACCESS_TIMEOUT_S = 10.0


_VERSION = re.compile(r"projects/[^/]+(/locations/[^/]+)?/secrets/[^/]+/versions/[^/]+")
_EXPECTED = "expected projects/PROJECT/secrets/SECRET/versions/VERSION, where VERSION may be `latest`"
#: What to do about an answer, by the class of Google's exception and those that it derives from.
_ADVICE = {
    "PermissionDenied": "give the service account the role `Secret Manager Secret Accessor` on the secret",
    "Unauthenticated": "the service account's key is not accepted: was it revoked?",
    "NotFound": "check the names of project, secret and version, and that the version was not destroyed",
    "FailedPrecondition": "is the version disabled? Enable it, or name another one",
    "InvalidArgument": _EXPECTED,
    "ResourceExhausted": "the quota of Secret Manager is used up; try again later",
    "ServerError": "Secret Manager cannot be reached from here; check the network, then try again",
    "RefreshError": "the credentials could not be used: check the key's account, and this machine's clock",
    "TransportError": "Google's token service cannot be reached from here; check the network, then try again",
}


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
    if not _VERSION.fullmatch(version):
        raise SecretError(f"{version!r} is not the name of a secret's version; {_EXPECTED}")
    client = connect(key_filename)
    # After connect, which has found out that they are installed.
    from google.api_core.exceptions import GoogleAPIError, ResourceExhausted, RetryError, ServiceUnavailable
    from google.api_core.retry import Retry, if_exception_type
    from google.auth.exceptions import GoogleAuthError

    # The library's own would go on for a minute: a server that starts says sooner what is wrong.
    transient = if_exception_type(ServiceUnavailable, ResourceExhausted)
    retry = Retry(transient, initial=0.2, maximum=2.0, timeout=ACCESS_TIMEOUT_S)
    try:
        response = client.access_secret_version(name=version, retry=retry, timeout=ACCESS_TIMEOUT_S)
        return str(response.payload.data.decode())
    except (GoogleAPIError, GoogleAuthError) as error:
        cause = error.cause if isinstance(error, RetryError) and error.cause else error
        raise SecretError(f"cannot read {version}: {_said(cause)}; {_advice(cause)}") from error
    except UnicodeDecodeError:
        # Not chained: the exception holds the bytes.
        raise SecretError(f"cannot read {version}: its content is not UTF-8 text") from None


def _said(error: Exception) -> str:
    # The first line: what follows it are details of the library's own.
    return str(error).partition("\n")[0] or type(error).__name__


def _advice(error: Exception) -> str:
    found = (advice for kind in type(error).__mro__ if (advice := _ADVICE.get(kind.__name__)))
    return next(found, "see https://cloud.google.com/secret-manager/docs/access-control")


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
        raise SecretError(
            f"no usable Google Cloud credentials in {source}; set TASKS_KEY_FILENAME to the JSON key of a "
            "service account, or run where there are Application Default Credentials"
        ) from None
    return client
