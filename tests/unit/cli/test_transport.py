"""TLS or plain text: what the options and the address come to."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from kuueri_grpc.cli.errors import CliError
from kuueri_grpc.cli.root import COMMANDS
from kuueri_grpc.cli.transport import Transport

Run = Callable[..., tuple[int, str, str]]

HERE, ELSEWHERE = "127.0.0.1:8202", "192.0.2.1:8202"


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUUERI_CREDENTIALS", str(tmp_path / "credentials.json"))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which kind of channel was made, and to where."""
    opened: list[str] = []
    monkeypatch.setattr(grpc, "insecure_channel", lambda target, options: opened.append(f"plain {target}"))
    monkeypatch.setattr(grpc, "secure_channel", lambda target, _, options: opened.append(f"TLS {target}"))
    return opened


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    path = tmp_path / "some.pem"
    path.write_bytes(trustme.CA().cert_pem.bytes())
    return path


@pytest.mark.parametrize(
    ("address", "insecure", "expected"),
    [
        (HERE, False, f"plain {HERE}"),
        (HERE, True, f"plain {HERE}"),
        ("[::1]:1", False, "plain [::1]:1"),
        ("localhost:1", False, "plain localhost:1"),
        (f"https://{HERE}", False, f"TLS {HERE}"),
        (ELSEWHERE, False, f"TLS {ELSEWHERE}"),
        ("example.com:8202", False, "TLS example.com:8202"),
        (f"https://{ELSEWHERE}", False, f"TLS {ELSEWHERE}"),
        (ELSEWHERE, True, f"plain {ELSEWHERE}"),
    ],
)
def test_plain_text_stays_on_this_machine_unless_asked_for(
    opened: list[str], address: str, *, insecure: bool, expected: str
) -> None:
    Transport(insecure=insecure).channel(address, ())
    assert opened == [expected]


def test_an_authority_asks_for_tls(opened: list[str], pem: Path) -> None:
    Transport(ca=pem).channel(HERE, ())
    assert opened == [f"TLS {HERE}"]


@pytest.mark.parametrize(
    ("transport", "address", "expected"),
    [
        (Transport(insecure=True), f"https://{HERE}", "^--insecure is plain text"),
        (Transport(ca=Path("x"), insecure=True), ELSEWHERE, "^--insecure is plain text"),
        (Transport(cert=Path("x")), ELSEWHERE, "^--tls-cert and --tls-key go together"),
        (Transport(key=Path("x")), HERE, "^--tls-cert and --tls-key go together"),
        (Transport(ca=Path("/no/such.pem")), HERE, r"^cannot read /no/such\.pem: No such file"),
    ],
)
def test_what_does_not_go_together_is_a_usage_error(
    opened: list[str], transport: Transport, address: str, expected: str
) -> None:
    with pytest.raises(CliError, match=expected) as caught:
        transport.channel(address, ())
    assert caught.value.exit_code == 2
    assert not opened


NO_CLIENTS = {
    "backup",
    "check",
    "completion",
    "restore",
    "serve",
    "instances",
    "keys",
    "demo",
    "target",
    "project",
    "admin",
}


@pytest.mark.parametrize(
    "command",
    [
        *sorted(set(COMMANDS) - NO_CLIENTS),
        "project register",
        "project show",
        "admin projects",
        "admin token create",
    ],
)
def test_every_client_command_takes_the_options(run: Run, command: str) -> None:
    _, out, _ = run(*command.split(), "--help")
    for option in ("--tls-ca", "--tls-cert", "--tls-key", "--insecure"):
        assert f"  {option} " in out


@pytest.mark.parametrize("given", ["option", "environment"])
def test_a_server_in_plain_text_is_told_apart(
    run: Run, server: Any, pem: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    options = ("--tls-ca", str(pem)) if given == "option" else ()
    if given == "environment":
        monkeypatch.setenv("KUUERI_TLS_CA", str(pem))
    code, _, err = run("get", "t", "-a", server.address, *options)
    assert code == 3
    assert err.splitlines()[-2:] == [
        f"error: cannot reach a server at {server.address}: it does not speak TLS",
        "hint: --insecure calls a server in plain text, token and all",
    ]
