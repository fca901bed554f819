"""What the operator allows and denies, by network and by name."""

import pytest

from kuueri_grpc.domain.target_policy import DENIED, BlockedAddress, TargetPolicy


def kind_of(policy: TargetPolicy, host: str) -> str | None:
    """Return why the host is refused, None if it is not."""
    try:
        policy.check_host(host)
    except BlockedAddress as error:
        return error.kind
    return None


def dialled(policy: TargetPolicy, address: str, name: str = "") -> str | None:
    """Return why the address is refused, None if it is not."""
    try:
        policy.check_address(address, name)
    except BlockedAddress as error:
        return error.kind
    return None


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("localhost", "loopback"),
        ("LocalHost.", "loopback"),
        ("a.b.localhost", "loopback"),
        ("localhost.localdomain", "loopback"),
        ("ip6-localhost", "loopback"),
        ("metadata.google.internal", "cloud metadata"),
        ("METADATA.google.internal.", "cloud metadata"),
        ("metadata", "cloud metadata"),
        ("instance-data.ec2.internal", "cloud metadata"),
        ("metadata.tencentyun.com", "cloud metadata"),
        ("notlocalhost", None),
        ("localhost.example.com", None),
        ("metadata.example.com", None),
    ],
)
def test_names_that_are_no_public_host(host: str, kind: str | None) -> None:
    assert kind_of(TargetPolicy(), host) == kind


@pytest.mark.parametrize(
    ("rule", "host", "open_"),
    [
        ("127.0.0.0/8", "localhost", True),
        ("127.0.0.0/8", "app.localhost", True),
        ("localhost", "localhost", True),
        ("localhost", "app.localhost", False),
        ("169.254.169.254", "metadata.google.internal", True),
        ("metadata.google.internal", "metadata.google.internal.", True),
        ("10.0.0.0/8", "localhost", False),
    ],
)
def test_a_known_name_is_allowed_by_name_or_by_the_address_it_stands_for(
    rule: str, host: str, open_: bool
) -> None:
    assert (kind_of(TargetPolicy([rule]), host) is None) == open_


@pytest.mark.parametrize(
    ("rule", "name", "open_"),
    [
        ("pay.internal", "pay.internal", True),
        ("pay.internal", "PAY.Internal.", True),
        ("Pay.Internal.", "pay.internal", True),
        ("pay.internal", "a.pay.internal", False),
        ("*.corp.example", "pay.corp.example", True),
        ("*.corp.example", "a.b.corp.example", True),
        ("*.corp.example", "corp.example", False),
        ("*.corp.example", "evilcorp.example", False),
        ("pay.internal", "", False),
    ],
)
def test_an_allowed_name_may_resolve_to_what_is_not_public(rule: str, name: str, open_: bool) -> None:
    assert (dialled(TargetPolicy([rule]), "10.0.0.1", name) is None) == open_


def test_an_allowed_name_does_not_open_the_address_itself() -> None:
    assert dialled(TargetPolicy(["pay.internal"]), "10.0.0.1") == "private"
    assert kind_of(TargetPolicy(["pay.internal"]), "10.0.0.1") == "private"


@pytest.mark.parametrize(
    ("denied", "address"),
    [
        ("8.8.8.0/24", "8.8.8.8"),
        ("8.8.8.0/24", "::ffff:8.8.8.8"),
        ("8.8.8.0/24", "64:ff9b::8.8.8.8"),
        ("8.8.8.0/24", "2002:808:808::1"),
        ("8.8.8.0/24", "2a00:1450::5efe:8.8.8.8"),
        ("::ffff:8.8.8.0/120", "8.8.8.8"),
        ("2a00:1450::/32", "2a00:1450:4001:82a::200e"),
        ("2002::/16", "2002:808:808::1"),
        ("0.0.0.0/0", "1.1.1.1"),
    ],
)
def test_a_denied_network_is_closed_in_every_spelling(denied: str, address: str) -> None:
    assert dialled(TargetPolicy(), address) is None
    assert dialled(TargetPolicy(deny=[denied]), address) == DENIED
    assert kind_of(TargetPolicy(deny=[denied]), address) == DENIED


@pytest.mark.parametrize("name", ["evil.example", "EVIL.example.", "a.bad.example"])
def test_a_denied_name_is_refused(name: str) -> None:
    assert kind_of(TargetPolicy(deny=["evil.example", "*.bad.example"]), name) == DENIED


def test_denied_comes_before_allowed() -> None:
    policy = TargetPolicy(
        allow=["10.0.0.0/8", "*.corp.example", "127.0.0.0/8"],
        deny=["10.0.0.1/32", "pay.corp.example", "localhost", "192.168.0.0/16"],
    )
    assert dialled(policy, "10.0.0.2") is None
    assert dialled(policy, "10.0.0.1") == DENIED
    assert kind_of(policy, "pay.corp.example") == DENIED
    assert kind_of(policy, "localhost") == DENIED
    # An allowed name opens what is not public, but not what is denied.
    assert dialled(policy, "172.16.0.1", "web.corp.example") is None
    assert dialled(policy, "192.168.0.1", "web.corp.example") == DENIED


def test_what_was_refused_is_not_remembered_as_allowed() -> None:
    policy = TargetPolicy()
    assert [kind_of(policy, host) for host in ("127.0.0.1", "1.1.1.1") * 2] == ["loopback", None] * 2
