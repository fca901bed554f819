"""Signatures by which a target knows who sent a request: Standard Webhooks 1.0.0.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hmac
from collections.abc import Iterable

_PREFIX = "whsec_"


def sign(message_id: str, timestamp_s: int, body: bytes, secrets: Iterable[str]) -> list[tuple[str, str]]:
    """Return the three `webhook-*` headers.

    Args:
        message_id: the same for every delivery of one attempt, so that the target can deduplicate.
        timestamp_s: seconds since the epoch at which this request is sent.
        body: the raw body.
        secrets: `whsec_` and the key in base64. Several while a rotation lasts: one signature each, in
            this order, separated by spaces.

    Raises:
        ValueError: a secret is not base64.
    """
    signed = b"%b.%d.%b" % (message_id.encode(), timestamp_s, body)
    signatures = " ".join(f"v1,{_signature(secret, signed)}" for secret in secrets)
    return [
        ("webhook-id", message_id),
        ("webhook-timestamp", str(timestamp_s)),
        ("webhook-signature", signatures),
    ]


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    return base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
