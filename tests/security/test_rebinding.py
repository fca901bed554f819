"""A hostile name server: public at first and private then, or both in one answer. The dial is what counts.

127.0.0.2 stands for a public address: it is allowed here, and nothing else of this machine is.
"""

import pytest

from kuueri_grpc.domain.timeline import Reason
from tests.dispatcher.sending import delivery, dispatching
from tests.dispatcher.targets import answer, answering, serving
from tests.security.name_server import resolving

PUBLIC = "127.0.0.2"
CLOSING = answer(connection="close")  # so that each attempt dials


async def test_public_first_and_private_next_is_refused_at_the_dial() -> None:
    async with (
        resolving([PUBLIC], ["127.0.0.1"]) as (resolver, names),
        dispatching(PUBLIC, resolver=resolver) as dispatcher,
        serving(answering(CLOSING), host=PUBLIC) as public,
        serving(answering(answer())) as private,
    ):
        first = await dispatcher.send(delivery(f"http://rebind.example:{public.port}/"))
        # Another port, so another lookup: that of the first is kept for some seconds.
        second = await dispatcher.send(delivery(f"http://rebind.example:{private.port}/"))

        assert first.succeeded
        assert (second.reason, second.detail) == (Reason.BLOCKED_ADDRESS, "loopback")
        assert private.connections == 0
        assert names.asked == 2


async def test_the_address_that_was_checked_is_the_one_that_is_dialled() -> None:
    async with (
        resolving([PUBLIC], ["127.0.0.1"]) as (resolver, names),
        dispatching(PUBLIC, resolver=resolver) as dispatcher,
        serving(answering(CLOSING), host=PUBLIC) as public,
    ):
        outcomes = [await dispatcher.send(delivery(public.url(host="rebind.example"))) for _ in range(3)]

        assert all(outcome.succeeded for outcome in outcomes)
        assert public.connections == 3
        assert names.asked == 1


@pytest.mark.parametrize(
    "addresses", [[PUBLIC, "127.0.0.1"], ["127.0.0.1", PUBLIC], [PUBLIC, "169.254.169.254"], ["10.0.0.1"]]
)
async def test_an_answer_with_one_refused_address_is_refused_as_a_whole(addresses: list[str]) -> None:
    async with (
        resolving(addresses) as (resolver, _),
        dispatching(PUBLIC, resolver=resolver) as dispatcher,
        serving(answering(answer()), host="0.0.0.0") as target,  # noqa: S104  every address of this machine
    ):
        outcome = await dispatcher.send(delivery(target.url(host="mixed.example")))

        assert outcome.reason is Reason.BLOCKED_ADDRESS
        assert target.connections == 0


async def test_a_redirect_to_a_name_that_rebinds_is_refused() -> None:
    async with (
        resolving([PUBLIC], ["127.0.0.1"]) as (resolver, _),
        dispatching(PUBLIC, resolver=resolver) as dispatcher,
        serving(answering(answer())) as private,
    ):
        redirect = answer("307 Temporary Redirect", location=private.url(host="rebind.example"))
        async with serving(answering(redirect), host=PUBLIC) as public:
            url = public.url(host="rebind.example")
            outcome = await dispatcher.send(delivery(url, follow_redirects=True))

        assert outcome.reason is Reason.BLOCKED_ADDRESS
        assert (public.connections, private.connections) == (1, 0)


async def test_a_name_that_the_operator_allowed_may_be_private_but_not_denied() -> None:
    async with (
        resolving(["127.0.0.1"]) as (resolver, _),
        dispatching("*.corp.example", resolver=resolver) as dispatcher,
        serving(answering(CLOSING)) as target,
    ):
        assert (await dispatcher.send(delivery(target.url(host="pay.corp.example")))).succeeded
        other = await dispatcher.send(delivery(target.url(host="pay.evil.example")))
        assert (other.reason, other.detail) == (Reason.BLOCKED_ADDRESS, "loopback")

    async with (
        resolving(["127.0.0.1"]) as (resolver, _),
        dispatching("*.corp.example", deny=("127.0.0.0/8",), resolver=resolver) as dispatcher,
        serving(answering(CLOSING)) as target,
    ):
        denied = await dispatcher.send(delivery(target.url(host="pay.corp.example")))
        assert denied.reason is Reason.BLOCKED_ADDRESS
        assert target.connections == 0


@pytest.mark.parametrize("aliases", [["db.corp.example"], ["x.example", "DB.corp.example", "y.example"]])
@pytest.mark.parametrize("deny", ["db.corp.example", "*.corp.example"])
async def test_an_alias_of_a_denied_name_is_denied(aliases: list[str], deny: str) -> None:
    async with (
        resolving([PUBLIC], aliases=aliases) as (resolver, names),
        dispatching(PUBLIC, deny=(deny,), resolver=resolver) as dispatcher,
        serving(answering(CLOSING), host=PUBLIC) as target,
    ):
        outcome = await dispatcher.send(delivery(target.url(host="innocent.example")))

        assert (outcome.reason, outcome.detail) == (
            Reason.BLOCKED_ADDRESS,
            "denied by the operator of this server",
        )
        assert (target.connections, names.asked) == (0, 1)


async def test_an_alias_of_another_name_is_not() -> None:
    async with (
        resolving([PUBLIC], aliases=["cdn.example"]) as (resolver, _),
        dispatching(PUBLIC, deny=("db.corp.example",), resolver=resolver) as dispatcher,
        serving(answering(CLOSING), host=PUBLIC) as target,
    ):
        assert (await dispatcher.send(delivery(target.url(host="innocent.example")))).succeeded


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "[::ffff:0.0.0.0]"])  # noqa: S104
async def test_a_denied_loopback_is_not_reached_as_the_unspecified_address(host: str) -> None:
    async with (
        dispatching("0.0.0.0/0", "::/0", deny=("127.0.0.0/8",)) as dispatcher,
        serving(answering(answer())) as target,
    ):
        outcome = await dispatcher.send(delivery(target.url(host=host)))

        assert outcome.reason is Reason.BLOCKED_ADDRESS
        assert target.connections == 0
