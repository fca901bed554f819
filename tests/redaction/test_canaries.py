"""The search finds what is there."""

import base64

import pytest

from tests.redaction.canaries import REQUEST, Canaries


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
@pytest.mark.parametrize("after", ["", "z", "zz"])
def test_a_secret_is_found_however_it_is_spelled(before: str, after: str) -> None:
    canaries = Canaries()
    text = f"{before}{canaries.request('body')}{after}".encode()

    for spelled in (text, text.hex().encode(), base64.b64encode(text)):
        canaries.look("log", spelled)
        assert canaries.leaks() == {"log": {"body"}}
        canaries._found.clear()


def test_another_text_is_not_found() -> None:
    canaries, others = Canaries(), Canaries()
    canaries.request("body")

    canaries.look("log", others.request("body"))

    assert canaries.leaks() == {}


def test_what_may_be_shown_is_none() -> None:
    canaries = Canaries()
    canaries.look("GetTask", canaries.request("body"))
    assert canaries.leaks() == {}
    assert canaries.needed_exemptions() == {("GetTask", REQUEST)}
    canaries.look("GetTask", canaries.credential("token"))
    assert canaries.leaks() == {"GetTask": {"token"}}
