"""What the tests of authentication share."""

from kuueri_grpc.engine import token_format
from kuueri_grpc.ports import Credential
from kuueri_grpc.store.projects import RedisProjectStore


def with_another_secret(token: str) -> str:
    body = f"kq_{token.split('_')[1]}_{'b' * 43}"
    return f"{body}_{token_format.checksum(body)}"


class Counting(RedisProjectStore):
    """The real store; counts how often a credential is read."""

    reads = 0

    async def credential(self, project_id: str, key_id: str) -> Credential | None:
        self.reads += 1
        return await super().credential(project_id, key_id)
