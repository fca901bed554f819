"""URLs: what is accepted can be sent as it was meant; what is refused says why, without repeating secrets."""

import re
from unittest import mock
from urllib.parse import urlsplit

import httpx
import pytest
import yarl
from hypothesis import given
from hypothesis import strategies as st

from kuueri_grpc.dispatcher.url import parse
from kuueri_grpc.domain.target_policy import TargetPolicy
from kuueri_grpc.domain.url import host_of
from kuueri_grpc.service.url import url_fault

MAX = 2_083
#: Lets every address pass: what the policy refuses is tested in `tests/security`.
OPEN = TargetPolicy(["0.0.0.0/0", "::/0"])
EXPECTED = "expected an absolute http or https URL such as https://example.com/hook"
NAME = (
    "expected an IP address, or a name of at most 253 characters with labels of 1 to 63 letters, digits, "
    "hyphens and underscores"
)

ACCEPTED = [
    "http://example.com",
    "https://example.com/hook",
    "HTTPS://Example.COM/",
    "https://example.com:8443/a/b?c=d&e=%20f",
    "https://example.com?c=d",
    "https://example.com:1",
    "https://example.com:65535/",
    "https://example.com./",
    "https://a.b.c.d.e.f.g.h.example/",
    "https://under_score.example/",
    "http://localhost:8080/hook",
    "http://127.0.0.1:9000/",
    "http://[::1]/",
    "http://[2001:db8::ffff:192.0.2.1]:8080/x",
    "https://xn--bcher-kva.example/hook",
    "http://bücher.example/straße?größe=ä",
    "https://example.com/path@with:signs/'(x)'~!$*+,;=",
    'https://example.com/?json={"a":[1]}|^`<>',
    "https://" + ".".join(["a" * 63] * 3 + ["b" * 61]) + "/",
]

REFUSED = {
    "": f"is required; {EXPECTED}",
    "example.com/hook": f"is not absolute; {EXPECTED}",
    "//example.com/hook": f"is not absolute; {EXPECTED}",
    "/hook": f"is not absolute; {EXPECTED}",
    "example.com:8080/hook": f"is not absolute; {EXPECTED}",
    "mailto:a@example.com": f"is not absolute; {EXPECTED}",
    "ftp://example.com/": f"has scheme 'ftp'; {EXPECTED}",
    "file:///etc/passwd": f"has scheme 'file'; {EXPECTED}",
    "gopher://example.com/": f"has scheme 'gopher'; {EXPECTED}",
    "httpx://example.com/": f"has scheme 'httpx'; {EXPECTED}",
    "http:example.com": f"has no // after the scheme; {EXPECTED}",
    "https:/example.com": f"has no // after the scheme; {EXPECTED}",
    "http://": f"has no host; {EXPECTED}",
    "http:///path": f"has no host; {EXPECTED}",
    "http://?x=1": f"has no host; {EXPECTED}",
    "http://:8080/": f"has no host; {EXPECTED}",
    "https://user:secret@example.com/": (
        "has user-info before the host; send credentials in a header such as authorization"
    ),
    "https://good.example@evil.example/": (
        "has user-info before the host; send credentials in a header such as authorization"
    ),
    "https://@example.com/": (
        "has user-info before the host; send credentials in a header such as authorization"
    ),
    "https://evil.example#@good.example/": (
        "has a fragment (#...), which is never sent; leave it out, or percent-encode the # as %23"
    ),
    "https://example.com/#top": (
        "has a fragment (#...), which is never sent; leave it out, or percent-encode the # as %23"
    ),
    "https://evil.example\\@good.example/": "has a backslash at position 20; percent-encode it as %5C",
    "https:\\\\example.com/": "has a backslash at position 6; percent-encode it as %5C",
    "https://example.com/a b": "has whitespace (U+0020) at position 21; percent-encode it",
    " https://example.com/": "has whitespace (U+0020) at position 0; percent-encode it",
    "https://example.com/\n": "has whitespace (U+000A) at position 20; percent-encode it",
    "https://example.com\r\nhost: x/": "has whitespace (U+000D) at position 19; percent-encode it",
    "https://example.com/\x00": (
        "has a control or invisible character (U+0000) at position 20; percent-encode it"
    ),
    "https://example.com/\x7f": (
        "has a control or invisible character (U+007F) at position 20; percent-encode it"
    ),
    "https://example.com/\u00a0": "has whitespace (U+00A0) at position 20; percent-encode it",
    "https://exam\u200bple.com/": (
        "has a control or invisible character (U+200B) at position 12; percent-encode it"
    ),
    "https://example.com:/": "has port ''; expected 1 to 65,535",
    "https://example.com:0/": "has port '0'; expected 1 to 65,535",
    "https://example.com:65536/": "has port '65536'; expected 1 to 65,535",
    "https://example.com:99999999999/": "has port '99999999999'; expected 1 to 65,535",
    "https://example.com:http/": "has port 'http'; expected 1 to 65,535",
    "https://example.com:-1/": "has port '-1'; expected 1 to 65,535",
    "https://example.com:80:80/": "has port '80:80'; expected 1 to 65,535",
    "https://example.com:٨٠/": "has port '\\u0668\\u0660'; expected 1 to 65,535",
    "https://a..b/": f"has host 'a..b'; {NAME}",
    "https://.example.com/": f"has host '.example.com'; {NAME}",
    "https://%31%32%37.0.0.1/": f"has host '%31%32%37.0.0.1'; {NAME}",
    "https://a'b/": f'has host "a\'b"; {NAME}',
    "https://" + "a" * 64 + ".example/": f"has host '{'a' * 61}...'; {NAME}",
    "https://" + ".".join(["a" * 63] * 4) + "/": f"has host '{'a' * 61}...'; {NAME}",
    "https://\uff11\uff12\uff17.0.0.1/": f"has host '\\uff11\\uff12\\uff17.0.0.1'; {NAME}",
    "https://256.1.1.1/": f"has host '256.1.1.1'; {NAME}",
    "https://127.0.0.18080": f"has host '127.0.0.18080'; {NAME}",
    "https://xn--a/": f"has host 'xn--a'; {NAME}",
    "https://XN--/": f"has host 'XN--'; {NAME}",
    "https://xn--xn--.example/x": f"has host 'xn--xn--.example'; {NAME}",
    "https://①.example/": f"has host '\\u2460.example'; {NAME}",
    "https://[fe80::1%eth0]/": "has host '[fe80::1%eth0]'; expected an IPv6 address without a zone id",
    "https://[fe80::1%25eth0]/": "has host '[fe80::1%25eth0]'; expected an IPv6 address without a zone id",
    "https://[::1/": ("has host '[::1'; expected a name, an IPv4 address or an IPv6 address in [ ]"),
    "https://::1/": "has no host; " + EXPECTED,
    "https://[]/": "has host '[]'; expected an IPv6 address between [ and ]",
    "https://[127.0.0.1]/": "has host '[127.0.0.1]'; expected an IPv6 address between [ and ]",
    "https://[::1]x/": ("has host '[::1]x'; expected a name, an IPv4 address or an IPv6 address in [ ]"),
}


@pytest.mark.parametrize("url", ACCEPTED)
def test_accepts(url: str) -> None:
    assert url_fault(url, MAX, OPEN) is None


@pytest.mark.parametrize(("url", "fault"), REFUSED.items(), ids=[ascii(url)[:40] for url in REFUSED])
def test_refuses(url: str, fault: str) -> None:
    assert url_fault(url, MAX, OPEN) == fault


def test_the_longest_url_is_accepted_and_one_character_more_is_not() -> None:
    url = "https://example.com/".ljust(MAX, "a")
    assert url_fault(url, MAX, OPEN) is None
    assert url_fault(url + "a", MAX, OPEN) == "has 2,084 characters; at most 2,083 are allowed"


@pytest.mark.parametrize("secret", ["hunter2", "s3cr3t"])
def test_no_message_repeats_user_info_path_or_query(secret: str) -> None:
    for url in (
        f"https://me:{secret}@example.com/",
        f"https://example.com/{secret} /",
        f"https://example.com/?key={secret}#x",
        f"https://example.com:0/{secret}",
        f"https://example.com/{secret}".ljust(3_000, "a"),
    ):
        assert secret not in str(url_fault(url, MAX, OPEN))


CHARACTERS = "abz09.-_:/?#@[]%!$&'()*+,;=\\ \t\n\x00\x7f\"<>^`{|}~\u00e4\u2460\u3002\u200b"
WORDS = ("http://", "https://", "example.com", "127.0.0.1", "[::1]", "xn--", "%2f", "8080", "65536")
PIECES = st.lists(st.sampled_from([*CHARACTERS, *WORDS]), max_size=12).map("".join)


@given(PIECES.map("https://".__add__) | PIECES | st.text(max_size=30).map("http://".__add__))
def test_what_is_accepted_is_what_the_sender_parses(url: str) -> None:
    if url_fault(url, MAX, OPEN) is not None:
        return
    sent, read = httpx.URL(url), urlsplit(url)
    assert sent.scheme in ("http", "https")
    assert sent.host
    assert not sent.userinfo
    assert not sent.fragment
    assert (read.hostname or "").isascii() is False or read.hostname == sent.host
    assert (sent.port or {"http": 80, "https": 443}[sent.scheme]) == (
        read.port or {"http": 80, "https": 443}[sent.scheme]
    )


@given(PIECES.map("https://".__add__) | PIECES.map("https://example.com/".__add__))
def test_the_short_cut_accepts_nothing_that_the_rules_refuse(url: str) -> None:
    with mock.patch("kuueri_grpc.service.url._COMMON", re.compile(r"(?!)")):  # matches nothing
        by_the_rules = url_fault(url, MAX, OPEN)
    assert url_fault(url, MAX, OPEN) == by_the_rules


_URLS = st.text("hHtTpPsS:/.0123456789aAxXnN-_[]@#?%\\ü١ ", max_size=24)


@given(_URLS.map("http://".__add__) | _URLS | st.sampled_from(ACCEPTED + list(REFUSED)))
def test_what_is_accepted_every_parser_after_it_takes_for_the_same(url: str) -> None:
    """The dispatcher's, by httpx, and aiohttp's, by yarl: none finds a fault, or another host."""
    if url_fault(url, MAX, OPEN) is not None:
        return
    target = parse(url)

    dialled = yarl.URL.build(
        scheme=target.origin[0], authority=target.authority.decode("ascii"), encoded=True
    )
    assert dialled.raw_host == target.host == host_of(url)
    assert (dialled.explicit_port or None) == target.origin[2]
    assert target.path.startswith(b"/")
