"""Credentials of a call: where they are found, and what is said when they are not."""

import contextvars

import pytest

from kuueri_grpc.domain.access import Access
from kuueri_grpc.domain.errors import Unauthenticated
from kuueri_grpc.service.auth import TokenMissing, admit, bearer_token, caller

EXPECTED = "expected the metadata `authorization: Bearer <token>`, with the token that Register gave"


@pytest.mark.parametrize(
    "value", ["Bearer kq_1", "bearer kq_1", "BEARER  kq_1", " Bearer kq_1 ", b"Bearer kq_1"]
)
def test_finds_the_token(value: str | bytes) -> None:
    assert bearer_token([("user-agent", "x"), ("authorization", value)]) == "kq_1"


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ([], f"no credentials came; {EXPECTED}"),
        ([("x-authorization", "Bearer kq_1")], f"no credentials came; {EXPECTED}"),
        ([("authorization", "Bearer")], f"no token follows Bearer; {EXPECTED}"),
        ([("authorization", "Bearer   ")], f"no token follows Bearer; {EXPECTED}"),
    ],
)
def test_says_that_there_is_no_token(metadata: list[tuple[str, str | bytes]], text: str) -> None:
    with pytest.raises(TokenMissing) as caught:
        bearer_token(metadata)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (["Basic aHVudGVyMg=="], f"the credentials have the scheme 'Basic'; {EXPECTED}"),
        (["kq_hunter2"], f"the credentials have no scheme; {EXPECTED}"),
        ([""], f"the credentials have no scheme; {EXPECTED}"),
        (["Bearer kq_1", "Bearer kq_2"], f"2 credentials came; {EXPECTED}, once"),
    ],
)
def test_says_what_is_wrong_with_credentials(values: list[str], text: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        bearer_token([("authorization", value) for value in values])
    assert not isinstance(caught.value, TokenMissing)
    assert str(caught.value) == text


def test_a_call_that_was_not_admitted_has_no_caller() -> None:
    with pytest.raises(LookupError):
        contextvars.Context().run(caller)


def test_a_call_knows_its_caller_and_no_other_call_does() -> None:
    here, there = contextvars.Context(), contextvars.Context()
    here.run(admit, Access("p-1", "key"))
    there.run(admit, Access("p-2", "key"))
    assert (here.run(caller), there.run(caller)) == ("p-1", "p-2")
