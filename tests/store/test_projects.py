"""Projects, credentials and signing secrets as the store keeps them."""

import asyncio
import json
from collections.abc import Awaitable

import pytest

from kuueri_grpc.domain.access import Scope
from kuueri_grpc.domain.errors import EmailExists, KuueriError, ProjectNotFound, TooManySigningSecrets
from kuueri_grpc.ports import Credential, Rotation
from kuueri_grpc.store import keys
from kuueri_grpc.store.projects import MOST_SIGNING_SECRETS
from tests.store.ports import HOUR_MS, PROJECT, QUEUE_LIMIT, Ports, spec

FIRST_KEY = f"{PROJECT}key1"


async def sign_with(ports: Ports) -> tuple[str, ...]:
    """Return the secrets that an attempt which starts now is signed with."""
    task_id = f"task-{await ports.now_ms()}-{await ports.task_in_queue()}"
    await ports.subscribe(spec(task_id))
    return (await ports.take(task_id)).signing_secrets


async def rotate(
    ports: Ports,
    key_id: str,
    digest: bytes,
    grace_ms: int,
    *,
    caller: str = FIRST_KEY,
    request: str = "",
    project_id: str = PROJECT,
) -> int:
    rotation = Rotation(project_id, caller, key_id, digest, grace_ms, request)
    return await ports.projects.rotate_token(rotation)


async def outcome(call: Awaitable[None]) -> str:
    try:
        await call
    except KuueriError as error:
        return type(error).__name__
    return "made"


class TestCreate:
    async def test_what_is_kept(self, ports: Ports) -> None:
        before_ms = await ports.now_ms()
        await ports.projects.create("Me@Example.com", "key", b"\x07" * 32, "whsec_s", "project1111111111")

        project = await ports.projects.get("project1111111111")

        assert project.email == "Me@Example.com"
        assert before_ms <= project.create_time_ms <= await ports.now_ms()
        assert (project.task_in_queue, project.task_in_queue_limit) == (0, QUEUE_LIMIT)
        kept = await ports.projects.credential("project1111111111", "key")
        assert kept == Credential(
            "project1111111111", "key", b"\x07" * 32, create_time_ms=project.create_time_ms
        )

    @pytest.mark.parametrize("again", ["me@example.com", "ME@EXAMPLE.COM", "mE@eXample.com"])
    async def test_an_address_has_one_project_in_whatever_case(self, ports: Ports, again: str) -> None:
        await ports.projects.create("me@example.com", "k", b"d", "s", "project1111111111")
        before = ports.raw()

        with pytest.raises(EmailExists):
            await ports.projects.create(again, "k", b"d", "s", "project2222222222")

        assert ports.raw().databases == before.databases

    async def test_many_at_once_for_one_address(self, ports: Ports) -> None:
        outcomes = await asyncio.gather(
            *(
                outcome(ports.projects.create("me@example.com", "k", b"d", "s", f"project{n:010}"))
                for n in range(1, 21)
            )
        )

        assert sorted(outcomes) == ["EmailExists"] * 19 + ["made"]
        made = f"project{outcomes.index('made') + 1:010}"
        assert (await ports.projects.get(made)).email == "me@example.com"
        assert len(ports.raw().names_with(":project:")) == 2  # and the one that the fixture made

    async def test_the_address_is_not_in_any_key(self, ports: Ports) -> None:
        await ports.projects.create("me@example.com", "k", b"d", "s", "project1111111111")

        assert not [key for _, key in ports.raw().names() if "example" in key]


async def test_a_project_that_is_not_there(ports: Ports) -> None:
    nobody = "nobody0000000000"
    calls = (
        ports.projects.get(nobody),
        rotate(ports, "k", b"d", 0, project_id=nobody),
        ports.projects.rotate_signing_secret(nobody, "s", 0),
    )
    for call in calls:
        with pytest.raises(ProjectNotFound):
            await call

    assert await ports.projects.credential(nobody, "k") is None
    assert not ports.raw().names_with(nobody)


class TestRotateToken:
    async def test_without_grace_the_others_are_gone_at_once(self, ports: Ports) -> None:
        await rotate(ports, "new", b"\x02" * 32, 0)

        assert await ports.projects.credential(PROJECT, FIRST_KEY) is None
        added = await ports.projects.credential(PROJECT, "new")
        assert added is not None
        assert (added.digest, added.expire_time_ms, added.scope) == (b"\x02" * 32, None, Scope.FULL)

    async def test_with_grace_the_others_end_after_it(self, ports: Ports) -> None:
        before_ms = await ports.now_ms()

        await rotate(ports, "new", b"\x02" * 32, HOUR_MS)

        former = await ports.projects.credential(PROJECT, FIRST_KEY)
        assert former is not None
        assert former.digest == b"\x01" * 32
        assert former.expire_time_ms is not None
        assert before_ms + HOUR_MS <= former.expire_time_ms <= await ports.now_ms() + HOUR_MS

    async def test_a_later_rotation_gives_nobody_more_time(self, ports: Ports) -> None:
        await rotate(ports, "second", b"\x02", HOUR_MS)
        before = await ports.projects.credential(PROJECT, FIRST_KEY)

        await rotate(ports, "third", b"\x03", 2 * HOUR_MS, caller="second")

        assert await ports.projects.credential(PROJECT, FIRST_KEY) == before
        added = await ports.projects.credential(PROJECT, "third")
        assert added is not None
        assert (added.digest, added.expire_time_ms) == (b"\x03", None)

    async def test_a_later_rotation_can_give_less(self, ports: Ports) -> None:
        await rotate(ports, "second", b"\x02", HOUR_MS)
        await rotate(ports, "third", b"\x03", 0, caller="second")

        for key in (FIRST_KEY, "second"):
            assert await ports.projects.credential(PROJECT, key) is None

    async def test_another_project_s_are_untouched(self, ports: Ports) -> None:
        other = await ports.create_project("project1111111111")
        before = await ports.projects.credential(other, f"{other}key1")
        await rotate(ports, "new", b"\x02", 0)

        assert await ports.projects.credential(other, f"{other}key1") == before

    async def test_a_key_id_does_not_open_another_project(self, ports: Ports) -> None:
        other = await ports.create_project("project1111111111")

        assert await ports.projects.credential(other, FIRST_KEY) is None


class TestRotateSigning:
    async def test_without_grace_the_new_one_signs_alone(self, ports: Ports) -> None:
        await ports.projects.rotate_signing_secret(PROJECT, "whsec_second", 0)

        assert await sign_with(ports) == ("whsec_second",)

    async def test_with_grace_the_newest_signs_first_and_the_former_beside_it(self, ports: Ports) -> None:
        await ports.projects.rotate_signing_secret(PROJECT, "whsec_second", HOUR_MS)
        await ports.projects.rotate_signing_secret(PROJECT, "whsec_third", HOUR_MS)

        assert await sign_with(ports) == ("whsec_third", "whsec_second", "whsec_first")

    @pytest.mark.parametrize("grace_ms", [0, HOUR_MS])
    async def test_the_time_that_is_answered_is_the_one_that_is_kept(
        self, ports: Ports, grace_ms: int
    ) -> None:
        before_ms = await ports.now_ms()
        old_expire_ms = await ports.projects.rotate_signing_secret(PROJECT, "whsec_second", grace_ms)

        assert before_ms + grace_ms <= old_expire_ms <= await ports.now_ms() + grace_ms
        key = keys.project(keys.partition_of(PROJECT, ports.settings.partitions), PROJECT)
        _, *former = json.loads((ports.raw().databases[0][key].fields or {})["signing"])
        assert [one["x"] for one in former] == ([old_expire_ms] if grace_ms else [])

    async def test_the_former_stops_after_its_grace(self, ports: Ports) -> None:
        await ports.projects.rotate_signing_secret(PROJECT, "whsec_second", 30)
        await ports.until(await ports.now_ms() + 31)

        assert await sign_with(ports) == ("whsec_second",)

    async def test_a_later_rotation_gives_nobody_more_time(self, ports: Ports) -> None:
        await ports.projects.rotate_signing_secret(PROJECT, "whsec_second", 30)
        await ports.projects.rotate_signing_secret(PROJECT, "whsec_third", HOUR_MS)
        await ports.until(await ports.now_ms() + 31)

        assert await sign_with(ports) == ("whsec_third", "whsec_second")

    async def test_no_more_sign_than_may(self, ports: Ports) -> None:
        names = [f"whsec_{n}" for n in range(MOST_SIGNING_SECRETS - 1)]
        for name in names:
            await ports.projects.rotate_signing_secret(PROJECT, name, HOUR_MS)
        before = ports.raw().databases

        with pytest.raises(TooManySigningSecrets) as refused:
            await ports.projects.rotate_signing_secret(PROJECT, "whsec_more", HOUR_MS)

        assert refused.value.limit == MOST_SIGNING_SECRETS
        assert ports.raw().databases == before
        assert await sign_with(ports) == (*reversed(names), "whsec_first")
        await ports.projects.rotate_signing_secret(PROJECT, "whsec_last", 0)
        assert await sign_with(ports) == ("whsec_last",)

    async def test_what_has_ended_is_not_kept(self, ports: Ports) -> None:
        await ports.projects.rotate_signing_secret(PROJECT, "whsec_second", 5)
        await ports.until(await ports.now_ms() + 6)
        await ports.projects.rotate_signing_secret(PROJECT, "whsec_third", HOUR_MS)

        assert not ports.raw().names_with("whsec_first")
