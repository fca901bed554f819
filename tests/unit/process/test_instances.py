"""A store that is not there, as `kuueri instances` says it."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from kuueri_grpc.config import Settings
from kuueri_grpc.config.database import DatabaseSettings, RedisSettings
from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.process.instances import live_instances


async def test_an_external_store_is_named_without_its_password() -> None:
    url = SecretStr("redis://user:secret@127.0.0.1:1")
    settings = Settings(database=DatabaseSettings(redis=RedisSettings(url=url)))
    with pytest.raises(StoreUnavailable, match=r"the store at 127\.0\.0\.1:1 does not serve: ") as refusal:
        await live_instances(settings)
    assert "secret" not in str(refusal.value)


async def test_an_embedded_store_is_named_by_its_socket(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=rf"the store at {tmp_path}/valkey\.sock does not serve: "):
        await live_instances(Settings(data_dir=tmp_path))
