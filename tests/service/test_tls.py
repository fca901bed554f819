"""TLS on the port: who gets in with which certificate, and what happens when the files change."""

import asyncio
import errno
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kuueri_grpc.pb import project_service_pb2 as projects_pb
from kuueri_grpc.pb import task_service_pb2 as pb
from kuueri_grpc.ports import Telemetry
from kuueri_grpc.service.certificates import CertificateError, CertificateFiles, Certificates
from tests.service import watching
from tests.service.edge import Edge, connect, serving


class Authority:
    """A certificate authority, and what it signs as PEM: (private key, certificate chain)."""

    def __init__(self) -> None:
        self._authority = trustme.CA()
        self.pem = self._authority.cert_pem.bytes()

    def issue(self, name: str = "127.0.0.1") -> tuple[bytes, bytes]:
        leaf = self._authority.issue_cert(name)
        chain = b"".join(part.bytes() for part in leaf.cert_chain_pems)
        return leaf.private_key_pem.bytes(), chain

    def credentials(self, client: tuple[bytes, bytes] | None = None) -> grpc.ChannelCredentials:
        """What trusts servers with certificates of this authority, and shows the client's."""
        key, chain = client or (None, None)
        return grpc.ssl_channel_credentials(self.pem, key, chain)


class Counted(Telemetry):
    def __init__(self) -> None:
        self.reloads: list[str] = []

    def certificates_renewed(self) -> None:
        self.reloads.append("renewed")

    def certificates_refused(self) -> None:
        self.reloads.append("refused")


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> CertificateFiles:
    """The files of a server that takes any client."""
    files = CertificateFiles(tmp_path / "server.crt", tmp_path / "server.key")
    replace(files, authority.issue())
    return files


@pytest.fixture
def mutual(tmp_path: Path, files: CertificateFiles, authority: Authority) -> CertificateFiles:
    """The files of a server whose clients need a certificate of `authority`."""
    client_ca = tmp_path / "clients.crt"
    client_ca.write_bytes(authority.pem)
    return CertificateFiles(files.cert, files.key, client_ca)


def replace(files: CertificateFiles, issued: tuple[bytes, bytes]) -> None:
    key, chain = issued
    files.key.write_bytes(key)
    files.cert.write_bytes(chain)


async def answers(edge: Edge, credentials: grpc.ChannelCredentials | None) -> bool:
    """Whether a new connection gets an answer."""
    async with connect(edge.server.port, credentials) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            await stub.Check(health_pb2.HealthCheckRequest())
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                return False
            raise
        return True


async def shown_certificate(edge: Edge) -> str:
    return await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", edge.server.port))


class TestServer:
    @pytest.fixture
    async def edge(
        self, store_url: str, files: CertificateFiles, authority: Authority
    ) -> AsyncIterator[Edge]:
        credentials = authority.credentials()
        async with serving(store_url, certificates=files, channel_credentials=credentials) as edge:
            yield edge

    async def test_calls_go_through_for_a_client_that_trusts_its_authority(self, edge: Edge) -> None:
        owner = await edge.register("owner@example.com")
        answer = await edge.projects.GetProject(projects_pb.GetProjectRequest(), metadata=owner.metadata)
        assert answer.project.project_id == owner.project_id

    async def test_a_client_that_trusts_another_authority_leaves(self, edge: Edge) -> None:
        assert not await answers(edge, Authority().credentials())

    async def test_plain_text_gets_no_answer(self, edge: Edge) -> None:
        assert not await answers(edge, None)


class TestMutual:
    @pytest.fixture
    async def edge(
        self, store_url: str, mutual: CertificateFiles, authority: Authority
    ) -> AsyncIterator[Edge]:
        credentials = authority.credentials(authority.issue("client"))
        async with serving(store_url, certificates=mutual, channel_credentials=credentials) as edge:
            yield edge

    async def test_a_certificate_of_the_authority_opens(self, edge: Edge, authority: Authority) -> None:
        assert await answers(edge, authority.credentials(authority.issue("another-client")))

    async def test_no_certificate_does_not(self, edge: Edge, authority: Authority) -> None:
        assert not await answers(edge, authority.credentials())

    async def test_one_of_another_authority_does_not(self, edge: Edge, authority: Authority) -> None:
        assert not await answers(edge, authority.credentials(Authority().issue("client")))

    async def test_a_certificate_is_no_token(self, edge: Edge) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await edge.projects.GetProject(projects_pb.GetProjectRequest())
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED

    async def test_another_authority_for_clients_is_in_force_for_new_connections(
        self, edge: Edge, mutual: CertificateFiles, authority: Authority
    ) -> None:
        other = Authority()
        assert mutual.client_ca is not None
        mutual.client_ca.write_bytes(other.pem)
        assert not await answers(edge, authority.credentials(authority.issue("client")))
        assert await answers(edge, authority.credentials(other.issue("client")))


class TestReload:
    @pytest.fixture
    def counted(self) -> Counted:
        return Counted()

    @pytest.fixture
    async def edge(
        self, store_url: str, files: CertificateFiles, authority: Authority, counted: Counted
    ) -> AsyncIterator[Edge]:
        credentials = authority.credentials()
        async with serving(
            store_url, certificates=files, channel_credentials=credentials, telemetry=counted
        ) as edge:
            yield edge

    async def test_new_connections_have_the_new_certificate_and_an_open_watch_goes_on(
        self, edge: Edge, files: CertificateFiles, authority: Authority, counted: Counted
    ) -> None:
        owner = await edge.register("owner@example.com")
        await watching.subscribe(edge, owner, watching.task("a"))
        watch = watching.watch(edge, owner, pb.WatchRequest(task_id="a"))
        assert watching.shorts(await watching.read(watch, 3)) == ["snapshot", "1 SUBSCRIBED", "synced"]

        successor = Authority()
        replace(files, successor.issue())
        assert not await answers(edge, authority.credentials())
        assert await answers(edge, successor.credentials())
        assert counted.reloads == ["renewed"]

        await watching.pause(edge, owner)  # on the connection of before
        assert watching.shorts(await watching.read(watch, 1)) == ["2 PAUSED"]

    @pytest.fixture(params=["half a certificate", "half a chain", "half a key", "another key", "gone"])
    def broken(
        self, request: pytest.FixtureRequest, edge: Edge, files: CertificateFiles, authority: Authority
    ) -> str:
        """Files as they are for a moment while they are replaced."""
        key, chain = files.key.read_bytes(), files.cert.read_bytes()
        fault: str = request.param
        match fault:
            case "half a certificate":
                files.cert.write_bytes(chain[: len(chain) // 2])
            case "half a chain":
                files.cert.write_bytes(chain + authority.pem[: len(authority.pem) // 2])
            case "half a key":
                files.key.write_bytes(key[: len(key) // 2])
            case "another key":
                files.key.write_bytes(authority.issue()[0])
            case "gone":
                files.cert.unlink()
        return fault

    async def test_files_that_are_not_in_order_change_nothing(
        self,
        edge: Edge,
        broken: str,
        authority: Authority,
        counted: Counted,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        for _ in range(2):
            assert await answers(edge, authority.credentials()), broken
        assert counted.reloads == ["refused"]
        (record,) = [r for r in caplog.records if r.name == "kuueri_grpc.service.certificates"]
        assert (record.levelno, record.event) == (logging.WARNING, "certificates_refused")  # type: ignore[attr-defined]
        assert "PRIVATE KEY" not in record.getMessage()

    async def test_when_they_are_in_order_again_they_are_taken(
        self, edge: Edge, files: CertificateFiles, broken: str, authority: Authority, counted: Counted
    ) -> None:
        assert await answers(edge, authority.credentials())
        replace(files, authority.issue())
        shown = await shown_certificate(edge)
        assert shown.split() == files.cert.read_text().split(), broken
        assert counted.reloads == ["refused", "renewed"]

    async def test_a_lack_of_descriptors_puts_a_renewal_off(
        self,
        edge: Edge,
        files: CertificateFiles,
        authority: Authority,
        counted: Counted,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def lacking(_: Path) -> bytes:
            raise OSError(errno.EMFILE, "Too many open files")

        replace(files, authority.issue())
        with monkeypatch.context() as short:
            short.setattr(Path, "read_bytes", lacking)
            assert await answers(edge, authority.credentials())
        shown = await shown_certificate(edge)
        assert shown.split() == files.cert.read_text().split()
        assert counted.reloads == ["renewed"]

    async def test_a_link_that_is_turned_is_a_change(
        self, edge: Edge, files: CertificateFiles, authority: Authority, tmp_path: Path
    ) -> None:
        # As Kubernetes replaces a mounted secret.
        turned = {path: tmp_path / f"new-{path.name}" for path in (files.cert, files.key)}
        replace(CertificateFiles(turned[files.cert], turned[files.key]), authority.issue())
        for path, new in turned.items():
            (tmp_path / "link").symlink_to(new)
            (tmp_path / "link").rename(path)
        shown = await shown_certificate(edge)
        assert shown.split() == turned[files.cert].read_text().split()


class TestStart:
    def test_says_which_file_is_missing(self, files: CertificateFiles) -> None:
        files.key.unlink()
        with pytest.raises(CertificateError, match=rf"^{files.key} cannot be read: No such file"):
            Certificates(files)

    def test_says_what_is_no_certificate(self, files: CertificateFiles) -> None:
        files.cert.write_text("hello")
        with pytest.raises(CertificateError, match=rf"^{files.cert} has no certificates in it"):
            Certificates(files)

    def test_says_what_is_no_authority(self, mutual: CertificateFiles) -> None:
        assert mutual.client_ca is not None
        mutual.client_ca.write_text("")
        with pytest.raises(CertificateError, match=rf"^{mutual.client_ca} has no certificates in it"):
            Certificates(mutual)

    def test_an_encrypted_key_cannot_be_used(self, files: CertificateFiles) -> None:
        key = load_pem_private_key(files.key.read_bytes(), None)
        encrypted = BestAvailableEncryption(b"hunter2")
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encrypted))
        with pytest.raises(CertificateError, match=rf"^the private key in {files.key} is encrypted"):
            Certificates(files)

    def test_a_key_that_grpc_does_not_know_cannot_be_used(self, files: CertificateFiles) -> None:
        key = Ed25519PrivateKey.generate()
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with pytest.raises(CertificateError, match=r"expected RSA or ECDSA$"):
            Certificates(files)

    def test_the_servers_certificate_comes_first(self, files: CertificateFiles, authority: Authority) -> None:
        files.cert.write_bytes(authority.pem + files.cert.read_bytes())
        with pytest.raises(CertificateError, match="expected the server's own certificate first"):
            Certificates(files)
