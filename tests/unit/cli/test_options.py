"""Parsers of options that several commands share."""

import pytest
import typer

from kuueri_grpc.cli.options import address_flag, checked, parse_address, parse_count, parse_pair


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("example.com", "example.com:8202"),
        ("example.com:443", "example.com:443"),
        ("Example.COM:443", "example.com:443"),
        ("127.0.0.1:1", "127.0.0.1:1"),
        ("[::1]", "[::1]:8202"),
        ("[::1]:65535", "[::1]:65535"),
        ("https://example.com", "https://example.com:443"),
        ("HTTPS://Example.com:8202/", "https://example.com:8202"),
        ("https://[::1]:1", "https://[::1]:1"),
        ("http://127.0.0.1:8202", "127.0.0.1:8202"),
        ("HTTP://Example.com/", "example.com:8202"),
    ],
)
def test_addresses(text: str, expected: str) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":8202",
        "host:",
        "host:0",
        "host:65536",
        "host:x",
        "::1",
        "a:b:c",
        "[::1",
        "http://",
        "http://https://host",
        "ftp://host",
        "https://",
        "https://host/path",
        "https://a@b",
        "host/path",
        "a@b",
        "a b",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        parse_address(text)


def test_the_default_address_need_not_be_named() -> None:
    assert address_flag("127.0.0.1:8202") == ""
    assert address_flag("127.0.0.1:1") == " --address 127.0.0.1:1"


def test_pairs() -> None:
    assert parse_pair("a=b=c") == ("a", "b=c")
    assert parse_pair("a=") == ("a", "")
    for text in ("a", "=b", ""):
        with pytest.raises(ValueError, match="NAME=VALUE"):
            parse_pair(text)


def test_counts() -> None:
    assert parse_count("0") == 0
    assert parse_count("2147483647") == 2_147_483_647
    for text in ("", "-1", "1.5", "x", "2147483648", "٣"):
        with pytest.raises(ValueError, match="is not a whole number"):
            parse_count(text)


def test_the_error_of_a_parser_is_that_of_the_option() -> None:
    with pytest.raises(typer.BadParameter, match="is not an address"):
        checked(parse_address)("host:x")
    assert checked(parse_address)("host") == "host:8202"
