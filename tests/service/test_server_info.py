"""What a server tells of itself to whoever asks."""

import pytest

from kuueri_grpc.engine.buckets import Rate
from kuueri_grpc.pb import server_service_pb2 as pb
from kuueri_grpc.ports import StoreIdentity, StoreKind
from kuueri_grpc.service.limits import Limits
from kuueri_grpc.service.server_info import About
from kuueri_grpc.store.connection import StoreAddress
from kuueri_grpc.store.identity import identify
from tests.service.edge import Edge, Metadata, serving

ABOUT = About("1.2.3", StoreIdentity(StoreKind.EMBEDDED, "Valkey", "9.0.1"), 1_000, 60_000, Rate(7, 60))
NOBODYS: tuple[Metadata, ...] = ((), (("authorization", "Bearer kq_a_b_c"),), (("authorization", "x"),))


async def asked(edge: Edge, metadata: Metadata = ()) -> pb.ServerInfo:
    answer = await edge.info.GetServerInfo(pb.GetServerInfoRequest(), metadata=metadata)
    return answer.server_info


@pytest.mark.one_server
async def test_it_is_told_to_everybody(store_url: str) -> None:
    async with serving(store_url, Limits(max_body_bytes=5), about=ABOUT, admin_token="secret") as edge:
        first, *others = [await asked(edge, metadata) for metadata in NOBODYS]
    assert others == [first] * 2
    assert first.version == "1.2.3"
    assert first.store == pb.StoreInfo(kind=pb.STORE_KIND_EMBEDDED, product="Valkey", version="9.0.1")
    limits = first.limits
    assert (limits.max_body_bytes, limits.max_batch_tasks, limits.task_in_queue_limit) == (5, 1_000, 1_000)
    assert (limits.max_calls, limits.call_period.ToSeconds(), limits.history.ToSeconds()) == (7, 60, 60)
    assert list(first.features) == [
        "admin_token",
        "batch_requests",
        "register_request_id",
        "run_request_id",
        "views_by_scope",
    ]


async def test_a_server_without_an_admin_token_says_so(edge: Edge) -> None:
    info = await asked(edge)
    assert "admin_token" not in info.features
    assert not info.limits.HasField("call_period")


async def test_a_store_is_known_by_what_it_is_not_by_where_it_is(store_url: str) -> None:
    address = StoreAddress(store_url)
    async with address.connect_for_checks() as client:
        found = await identify(client, embedded=False)
    assert found.product in {"Valkey", "Redis"}
    assert found.version[0].isdigit()
    assert address.location not in repr(found)


async def test_a_store_that_does_not_answer_is_no_fault() -> None:
    async with StoreAddress("redis://127.0.0.1:1").connect_for_checks() as client:
        assert await identify(client, embedded=True) == StoreIdentity(StoreKind.EMBEDDED)
