"""Whether the store's ACL lets this server's user run what the server needs, `docs/stores.md`."""

from collections import defaultdict
from collections.abc import Sequence

from redis.exceptions import NoPermissionError, NoScriptError, ResponseError

from kuueri_grpc.ports import UnfitStore
from kuueri_grpc.store import keys
from kuueri_grpc.store.commands import Commands
from kuueri_grpc.store.scripts import script

#: One key of each kind of name, by the pattern that an ACL needs for it.
_PATTERNS = {keys.STORE: "~kuueri:*", keys.script_keys(0)[0]: "~{*}:*"}
_CHANNELS = "&kuueri:* &{*}:*"
#: Refused together, unless the user has the patterns of the channels.
_WITH_CHANNEL = {"PUBLISH", "SUBSCRIBE"}


async def check_permissions(client: Commands) -> None:
    """Return if the user may run every command; a server of another make that cannot tell is believed.

    Without this a server whose user lacks one command would start, and then fail at each use of it.

    Raises:
        UnfitStore: it may not; the text names what is missing.
        RedisError, OSError, TimeoutError: the store does not answer.
    """
    wanted = script("permitted")
    arguments = (keys.CREDENTIALS_CHANNEL, keys.wake_channel(0), *_PATTERNS)
    try:
        try:
            answer = await client.evalsha(wanted.sha, 0, *arguments)
        except NoScriptError:
            await client.script_load(wanted.source)
            answer = await client.evalsha(wanted.sha, 0, *arguments)
    except NoPermissionError as error:
        # It cannot ask: the store's answer names the command.
        raise UnfitStore(_text([f"run scripts ({error})"])) from error
    except ResponseError as error:
        if "acl_check_cmd" in str(error):
            return
        raise
    checked_with_key, *refused = answer
    if refused:
        entries = [[part.decode() for part in entry] for entry in refused]
        raise UnfitStore(_text(_described(entries, checked_with_key)))


def _described(refused: Sequence[Sequence[str]], checked_with_key: int) -> list[str]:
    """Return what is not permitted, in words. `refused`: commands, each with its key if it takes one."""
    by_command: dict[str, set[str]] = defaultdict(set)
    for command, *key in refused:
        by_command[command].update(key)
    # A user without a pattern may run no command with such a key.
    barred = {
        key for key in _PATTERNS if sum(key in found for found in by_command.values()) == checked_with_key
    }
    missing, partly = [], []
    for command, found in by_command.items():
        if not found or found == _PATTERNS.keys() != barred:
            missing.append(command)
        elif found - barred:
            partly.append(command)
    described = [f"use keys ({' '.join(_PATTERNS[key] for key in _PATTERNS if key in barred)})"] * bool(
        barred
    )
    if set(missing) >= _WITH_CHANNEL:
        missing = [command for command in missing if command not in _WITH_CHANNEL]
        described.append(f"use channels ({_CHANNELS})")
    if missing:
        described.append(f"run {', '.join(missing)}")
    if partly:
        described.append(f"run {', '.join(partly)} on all of its keys ({' '.join(_PATTERNS.values())})")
    return described


def _text(refusals: Sequence[str]) -> str:
    return (
        f"the store's ACL does not permit this server's user to {' and to '.join(refusals)}; "
        "docs/stores.md has the rule that permits what is needed"
    )
