"""Credentials as they are kept: a JSON object each, see `lua/lib_credentials.lua`."""

import json

from kuueri_grpc.domain.access import Scope
from kuueri_grpc.ports import Credential


def pack_credential(digest: bytes, scope: Scope = Scope.FULL, display_name: str = "") -> str:
    """Return what is kept of a credential, without the times, which the store adds."""
    record = {"h": digest.hex()}
    if scope is not Scope.FULL:
        record["s"] = scope.value
    if display_name:
        record["n"] = display_name
    return json.dumps(record, separators=(",", ":"))


def unpack_credential(project_id: str, key_id: str, text: bytes) -> Credential:
    """Return the credential that is kept as `text`."""
    record = json.loads(text)
    return Credential(
        project_id=project_id,
        key_id=key_id,
        digest=bytes.fromhex(record["h"]),
        scope=Scope(record.get("s", Scope.FULL)),
        display_name=record.get("n", ""),
        create_time_ms=_int(record.get("c")),
        expire_time_ms=_int(record.get("x")),
        repeat_until_ms=_int(record.get("k")) or 0,
    )


def _int(number: float | None) -> int | None:
    # Lua's JSON has no integers.
    return None if number is None else int(number)
