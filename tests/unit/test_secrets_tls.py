"""Secret Manager as in production, but for its address: TLS, a service account's key, the library's channel.

In a process of its own: gRPC reads once which authorities it trusts.
"""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from google.cloud.secretmanager import (
    AccessSecretVersionRequest,
    AccessSecretVersionResponse,
    SecretPayload,
)

VERSION = "projects/acme/secrets/tasks/versions/7"
#: The address is the one thing that is changed of what `access_secret` does.
READ = """
import sys
from pathlib import Path
from google.cloud.secretmanager import SecretManagerServiceClient
from kuueri_grpc import secrets
SecretManagerServiceClient._DEFAULT_ENDPOINT_TEMPLATE = sys.argv[1]
secrets.ACCESS_TIMEOUT_S = float(sys.argv[2])
print(secrets.access_secret(sys.argv[3], Path("account.json")), end="")
"""
#: Long for a call that is answered, short for one that never is.
PATIENCE_S, IMPATIENCE_S = "60", "1"


class SecretManager:
    """A server that has one secret, and keeps who asked for it."""

    def __init__(self, authority: trustme.CA, name: str) -> None:
        self.authorizations: list[str] = []
        certificate = authority.issue_cert(name)
        chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        credentials = grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])
        method = grpc.unary_unary_rpc_method_handler(
            self._answer,
            request_deserializer=AccessSecretVersionRequest.deserialize,
            response_serializer=AccessSecretVersionResponse.serialize,
        )
        service = "google.cloud.secretmanager.v1.SecretManagerService"
        self._server = grpc.server(ThreadPoolExecutor(1))
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(service, {"AccessSecretVersion": method})]
        )
        self.port = self._server.add_secure_port("127.0.0.1:0", credentials)

    def _answer(self, request: AccessSecretVersionRequest, context: Any) -> AccessSecretVersionResponse:
        self.authorizations += [
            value for key, value in context.invocation_metadata() if key == "authorization"
        ]
        assert request.name == VERSION
        return AccessSecretVersionResponse(payload=SecretPayload(data=b"the content, \xc3\xa4"))

    @contextmanager
    def running(self) -> Iterator[None]:
        self._server.start()
        try:
            yield
        finally:
            self._server.stop(None).wait()


@pytest.fixture
def account(tmp_path: Path) -> rsa.RSAPublicKey:
    """Make a service account's key; return what its signatures are verified with."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    document = {
        "type": "service_account",
        "client_email": "tasks@acme.test",
        "private_key_id": "key1",
        "private_key": private.decode(),
        "token_uri": "https://acme.test/token",
    }
    (tmp_path / "account.json").write_text(json.dumps(document))
    return key.public_key()


def read(
    directory: Path, port: int, trusted: trustme.CA, patience_s: str
) -> subprocess.CompletedProcess[str]:
    """Read the secret in a process that trusts an authority."""
    roots = directory / "roots.pem"
    trusted.cert_pem.write_to_path(roots)
    env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return subprocess.run(
        [sys.executable, "-c", READ, f"localhost:{port}", patience_s, VERSION],
        cwd=directory,
        env={**env, "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(roots)},
        capture_output=True,
        text=True,
        check=False,
    )


def part(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_a_secret_is_read_over_tls_with_a_token_that_the_key_has_signed(
    tmp_path: Path, account: rsa.RSAPublicKey
) -> None:
    authority = trustme.CA()
    secret_manager = SecretManager(authority, "localhost")
    with secret_manager.running():
        answer = read(tmp_path, secret_manager.port, authority, PATIENCE_S)

    assert (answer.stdout, answer.returncode) == ("the content, ä", 0), answer.stderr
    (authorization,) = secret_manager.authorizations
    head, claims, signature = authorization.removeprefix("Bearer ").split(".")
    account.verify(part(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
    assert json.loads(part(claims))["iss"] == "tasks@acme.test"


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("wrong", ["authority", "name"])
def test_nothing_is_sent_to_who_is_not_secret_manager(tmp_path: Path, wrong: str) -> None:
    authority = trustme.CA()
    secret_manager = SecretManager(authority, "localhost" if wrong == "authority" else "elsewhere.test")
    trusted = trustme.CA() if wrong == "authority" else authority
    with secret_manager.running():
        answer = read(tmp_path, secret_manager.port, trusted, IMPATIENCE_S)

    assert answer.returncode == 1
    assert secret_manager.authorizations == []
    assert f"SecretError: cannot read {VERSION}: " in answer.stderr
    assert "check the network" in answer.stderr
