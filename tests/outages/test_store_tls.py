"""An external store over TLS, with certificates on both sides: Debian's Redis, as the wheel has no TLS."""

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.acceptance.caller import post, register
from tests.acceptance.targets import Target
from tests.outages.servers import serving
from tests.outages.test_start import refused_start
from tests.outages.valkeys import Valkey, free_port

REDIS = shutil.which("redis-server")
pytestmark = pytest.mark.skipif(
    REDIS is None, reason="redis-server not found: install Debian's package redis-server"
)
PASSWORD = "p@ss/word"


@dataclass(frozen=True)
class Certificates:
    ca: Path
    cert: Path
    key: Path


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    made = Certificates(tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem")
    authority.cert_pem.write_to_path(made.ca)
    issued.private_key_pem.write_to_path(made.key)
    issued.cert_chain_pems[0].write_to_path(made.cert)
    return made


@pytest.fixture
async def store_url(tmp_path: Path, certificates: Certificates) -> AsyncIterator[str]:
    assert REDIS is not None
    port = free_port()
    store = Valkey(
        tmp_path / "redis",
        Path(REDIS),
        tls_port=port,
        tls_ca_cert_file=certificates.ca,
        tls_cert_file=certificates.cert,
        tls_key_file=certificates.key,
        requirepass=PASSWORD,
    )
    await store.start()
    yield f"rediss://127.0.0.1:{port}"
    store.stop()


def settings(certificates: Certificates) -> dict[str, str]:
    return {
        "TASKS_DATABASE__REDIS__PASSWORD": PASSWORD,
        "TASKS_DATABASE__REDIS__TLS__CA": str(certificates.ca),
        "TASKS_DATABASE__REDIS__TLS__CERT": str(certificates.cert),
        "TASKS_DATABASE__REDIS__TLS__KEY": str(certificates.key),
    }


async def test_tasks_run_with_the_files_and_the_password_of_the_settings(
    tmp_path: Path, store_url: str, certificates: Certificates, target: Target
) -> None:
    async with serving(tmp_path / "server", store_url, settings(certificates)) as (_, channel):
        project = await register(channel)
        task = await project.subscribe(post(target.url("/hook")))
        await project.ended(task.task_id)
    assert len(target.at("/hook")) == 1


async def test_a_certificate_of_another_authority_ends_the_start(
    tmp_path: Path, store_url: str, certificates: Certificates
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    said = await refused_start(
        tmp_path, store_url, {**settings(certificates), "TASKS_DATABASE__REDIS__TLS__CA": str(other)}
    )
    assert (
        "does not serve: its certificate is not accepted: self-signed certificate in certificate chain\n"
        in said
    )
    assert PASSWORD not in said


async def test_a_certificate_for_another_host_ends_the_start(
    tmp_path: Path, store_url: str, certificates: Certificates
) -> None:
    said = await refused_start(tmp_path, store_url.replace("127.0.0.1", "localhost"), settings(certificates))
    assert "does not serve: its certificate is not accepted: Hostname mismatch" in said
    assert "'localhost'" in said


async def test_a_wrong_password_ends_the_start(
    tmp_path: Path, store_url: str, certificates: Certificates
) -> None:
    said = await refused_start(
        tmp_path, store_url, {**settings(certificates), "TASKS_DATABASE__REDIS__PASSWORD": "wrong"}
    )
    assert "invalid username-password pair" in said
