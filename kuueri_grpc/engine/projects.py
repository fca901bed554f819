"""Projects and their credentials: who may call, and on whose tasks.

A token is `kq_<key id>_<secret>_<checksum>`. The key id begins with the project id, so a token leads to
its project without an index; the secret is 256 random bits, so a fast hash of it is enough (there is
nothing to guess); the checksum tells a mistyped token from a revoked one without asking the store.
"""

import base64
import hashlib
import hmac
import secrets
import time
import zlib
from dataclasses import dataclass

from kuueri_grpc.domain.errors import Unauthenticated
from kuueri_grpc.ports import Clock, Credential, Project, ProjectStore

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_BASE62 = _ALPHABET + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PROJECT_ID_LENGTH = 16
_KEY_ID_LENGTH = _PROJECT_ID_LENGTH + 4
_SECRET_LENGTH = 43  # 62 ** 43 > 2 ** 256
_CHECKSUM_LENGTH = 6  # 62 ** 6 > 2 ** 32
#: How long a credential is believed without asking the store: a rotation is in force everywhere then.
_CACHE_S = 5.0
_CACHE_SIZE = 10_000


@dataclass(frozen=True, slots=True)
class Registered:
    """A new project with its secrets, which are shown this once."""

    project: Project
    token: str
    signing_secret: str


class Projects:
    """Registers projects and authenticates their callers."""

    def __init__(self, store: ProjectStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._cache: dict[str, tuple[float, Credential]] = {}

    async def register(self, email: str) -> Registered:
        """Make a project. Raises `EmailExists`."""
        project_id = _random(_PROJECT_ID_LENGTH, _ALPHABET)
        key_id, token = _new_token(project_id)
        signing_secret = _new_signing_secret()
        await self._store.create(email, key_id, _digest(token), signing_secret, project_id)
        return Registered(await self._store.get(project_id), token, signing_secret)

    async def authenticate(self, token: str) -> str:
        """Return the id of the project that `token` belongs to.

        Raises:
            Unauthenticated: it is malformed, mistyped, revoked or expired.
        """
        key_id = _key_id(token)
        credential = await self._credential(key_id)
        if credential is None or not hmac.compare_digest(credential.digest, _digest(token)):
            raise Unauthenticated("the token is not valid: it was revoked, or its project was deleted")
        expiry = credential.expire_time_ms
        if expiry is not None and expiry <= self._clock.now_ms():
            raise Unauthenticated("the token is not valid any more: it was rotated")
        return credential.project_id

    async def _credential(self, key_id: str) -> Credential | None:
        now = time.monotonic()
        cached = self._cache.get(key_id)
        if cached and cached[0] > now:
            return cached[1]
        credential = await self._store.credential(key_id[:_PROJECT_ID_LENGTH], key_id)
        if credential is None:
            self._cache.pop(key_id, None)
            return None
        if len(self._cache) >= _CACHE_SIZE:
            self._cache.clear()
        self._cache[key_id] = (now + _CACHE_S, credential)
        return credential

    async def get(self, project_id: str) -> Project:
        """Return the project. Raises `ProjectNotFound`."""
        return await self._store.get(project_id)

    async def rotate_token(self, project_id: str, grace_ms: int) -> str:
        """Return a new token; all others end after `grace_ms`. Raises `ProjectNotFound`."""
        key_id, token = _new_token(project_id)
        await self._store.rotate_token(project_id, key_id, _digest(token), grace_ms)
        self._cache = {k: v for k, v in self._cache.items() if v[1].project_id != project_id}
        return token

    async def rotate_signing_secret(self, project_id: str, grace_ms: int) -> str:
        """Return a new signing secret; the former one signs beside it for `grace_ms`."""
        secret = _new_signing_secret()
        await self._store.rotate_signing_secret(project_id, secret, grace_ms)
        return secret

    async def epoch(self) -> str:
        """Return the identity of the store's data."""
        return await self._store.epoch()


def _random(length: int, alphabet: str) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))


def _new_token(project_id: str) -> tuple[str, str]:
    key_id = project_id + _random(_KEY_ID_LENGTH - _PROJECT_ID_LENGTH, _ALPHABET)
    body = f"kq_{key_id}_{_random(_SECRET_LENGTH, _BASE62)}"
    return key_id, f"{body}_{_checksum(body)}"


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    digits = []
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_BASE62))
        digits.append(_BASE62[digit])
    return "".join(digits)


def _key_id(token: str) -> str:
    parts = token.split("_")
    lengths = [len(part) for part in parts]
    if parts[0] != "kq" or lengths != [2, _KEY_ID_LENGTH, _SECRET_LENGTH, _CHECKSUM_LENGTH]:
        raise Unauthenticated("the token is malformed: expected kq_<key id>_<secret>_<checksum>")
    body, _, checksum = token.rpartition("_")
    if not hmac.compare_digest(_checksum(body).encode(), checksum.encode()):
        raise Unauthenticated("the token is mistyped: its checksum does not match")
    return parts[1]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _new_signing_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
