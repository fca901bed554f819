"""Verifies the signature of a request as Standard Webhooks 1.0.0 has it.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

Its Python library takes a body for UTF-8 text, and a task may carry any bytes.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence

#: How far the time of an attempt may be from now, either way.
TOLERANCE_S = 300
_PREFIX = "whsec_"


class SignatureError(Exception):
    """The request is not signed, or not by whom it should be. The text says what is wrong."""


def parse_secret(text: str) -> bytes:
    """Return the key in `whsec_...`.

    Raises:
        ValueError: it is not such a secret.
    """
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not text.startswith(_PREFIX) or not key:
        # The secret is not repeated.
        raise ValueError(f"not a signing secret; expected {_PREFIX} and base64")
    return key


def verify(keys: Sequence[bytes], headers: Mapping[str, str], body: bytes, now_s: float) -> None:
    """Check a request against the keys; one match is enough. `headers` have lower-case names.

    Raises:
        SignatureError: no key fits.
    """
    message_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    signatures = headers.get("webhook-signature", "")
    if not (message_id and timestamp and signatures):
        raise SignatureError("not signed")
    if not (timestamp.isascii() and timestamp.isdigit()):
        raise SignatureError("its time is not a number")
    if abs(now_s - int(timestamp)) > TOLERANCE_S:
        raise SignatureError(f"its time is more than {TOLERANCE_S} s off")
    signed = f"{message_id}.{timestamp}.".encode() + body
    expected = {
        f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}".encode() for key in keys
    }
    given = [signature.encode() for signature in signatures.split(" ")]
    if not any(hmac.compare_digest(wanted, signature) for wanted in expected for signature in given):
        raise SignatureError("signed with another secret, or changed on the way")
