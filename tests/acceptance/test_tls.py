"""TLS and mutual TLS as the operator and the user of the command line have it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from kuueri_grpc.cli.credentials import CredentialsFile
from tests.acceptance.command import Finished, run
from tests.acceptance.served import LOOPBACK, Server

REGISTER = ("project", "register", "--email", "me@example.com")


class Pem:
    """The files of a certificate that the authority signed, and of the authority."""

    def __init__(self, directory: Path, authority: trustme.CA, name: str) -> None:
        directory.mkdir()
        self.ca, self.cert, self.key = directory / "ca.pem", directory / "cert.pem", directory / "key.pem"
        issued = authority.issue_cert(name)
        authority.cert_pem.write_to_path(self.ca)
        issued.private_key_pem.write_to_path(self.key)
        for part in issued.cert_chain_pems:
            part.write_to_path(self.cert, append=True)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def pem(tmp_path: Path, authority: trustme.CA) -> Pem:
    return Pem(tmp_path / "server", authority, "127.0.0.1")


@pytest.fixture(params=["1", "2"], ids=["alone", "workers"])
def server(request: pytest.FixtureRequest, tmp_path: Path, pem: Pem) -> Iterator[Server]:
    options = ("--workers", request.param, "--tls-cert", str(pem.cert), "--tls-key", str(pem.key))
    with Server(tmp_path, *LOOPBACK, *options, "--tls-client-ca", str(pem.ca)) as server:
        yield server


async def call(server: Server, *arguments: str, cwd: Path) -> Finished:
    return await run("kuueri", *arguments, "--address", f"https://{server.address}", cwd=cwd)


async def test_a_client_with_a_certificate_is_served_and_others_are_told_what_they_lack(
    server: Server, pem: Pem, authority: trustme.CA, tmp_path: Path
) -> None:
    client = Pem(tmp_path / "client", authority, "client")
    shown = ("--tls-cert", str(client.cert), "--tls-key", str(client.key))
    trusting = ("--tls-ca", str(pem.ca))

    suspicious = await call(server, *REGISTER, *shown, cwd=tmp_path)
    assert suspicious.exit_code == 3
    assert "its certificate is not of an authority that is trusted here" in suspicious.stderr
    nameless = await call(server, *REGISTER, *trusting, cwd=tmp_path)
    assert nameless.exit_code == 3
    assert "want a certificate (--tls-cert, --tls-key)" in nameless.stderr

    (await call(server, *REGISTER, *trusting, *shown, cwd=tmp_path)).ok()
    assert CredentialsFile(tmp_path / "credentials.json").is_kept(server.address)
    listed = await call(server, "list", *trusting, *shown, cwd=tmp_path)
    assert listed.ok().stderr == "no tasks\n"
    # What gRPC's core says of handshakes is not for the log.
    assert "SSL_ERROR" not in server.log


async def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path, pem: Pem) -> None:
    options = ("--tls-cert", str(pem.cert), "--tls-key", str(pem.ca), "--data-dir", str(tmp_path / "data"))
    for workers in ("1", "2"):
        ended = await run("kuueri", "serve", "--port", "0", "--workers", workers, *options, cwd=tmp_path)
        assert ended.exit_code == 1
        assert f"error: {pem.ca} has no private key in it" in ended.stderr


async def test_plain_text_beyond_this_machine_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    for workers in ("1", "2"):
        arguments = ("--host", "0.0.0.0", "--workers", workers, "--data-dir", str(data_dir))  # noqa: S104  it is refused
        env = {"TASKS_ADMIN_TOKEN": "an-admin-token-of-this-server-alone"}
        ended = await run("kuueri", "serve", *arguments, cwd=tmp_path, env=env)
        assert ended.exit_code == 1
        assert "error: gRPC would be in plain text on 0.0.0.0" in ended.stderr
    assert not data_dir.exists()
