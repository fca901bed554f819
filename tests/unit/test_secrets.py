"""Secret Manager as a source of configuration: Google's own client against a server on a local socket."""

import json
import subprocess
import sys
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.cloud.secretmanager import (
    AccessSecretVersionRequest,
    AccessSecretVersionResponse,
    SecretManagerServiceClient,
    SecretPayload,
)
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import (
    SecretManagerServiceGrpcTransport,
)

from kuueri_grpc import secrets
from kuueri_grpc.config import ConfigError, load_settings
from kuueri_grpc.secrets import SecretError, access_secret, connect
from tests.keys import KEYRING

VERSION = "projects/acme/secrets/tasks/versions/7"
LATIN_1 = "projects/acme/secrets/latin/versions/1"
NO_JSON = "projects/acme/secrets/text/versions/1"
KEYS = "projects/acme/secrets/keys/versions/1"
CONTENT = {
    VERSION: json.dumps({"PORT": 7, "SERVICE": {"LEASE_MS": 7000}}).encode(),
    LATIN_1: "hidden é".encode("latin-1"),
    NO_JSON: b'{"SERVICE": hidden}',
    KEYS: json.dumps({"SERVICE": {"CRYPTO": {"KEY": [KEYRING.reveal()]}}}).encode(),
}
#: Secrets that are refused: the code, what the service says, and what a person is told to do about it.
REFUSALS = {
    "denied": (
        grpc.StatusCode.PERMISSION_DENIED,
        "Permission denied on resource",
        "Secret Accessor` on the secret",
    ),
    "revoked": (grpc.StatusCode.UNAUTHENTICATED, "invalid credentials", "was it revoked?"),
    "none": (grpc.StatusCode.NOT_FOUND, "Secret not found", "check the names of project, secret and version"),
    "disabled": (
        grpc.StatusCode.FAILED_PRECONDITION,
        "is in DISABLED state",
        "Enable it, or name another one",
    ),
    "odd": (grpc.StatusCode.INVALID_ARGUMENT, "invalid name", "expected projects/PROJECT/secrets/SECRET"),
    "busy": (grpc.StatusCode.RESOURCE_EXHAUSTED, "quota", "try again later"),
    "down": (grpc.StatusCode.INTERNAL, "down", "check the network"),
}


def _answer(
    request: AccessSecretVersionRequest, context: grpc.ServicerContext
) -> AccessSecretVersionResponse:
    if request.name not in CONTENT:
        code, said, _ = REFUSALS[request.name.split("/")[3]]
        context.abort(code, said)
    return AccessSecretVersionResponse(payload=SecretPayload(data=CONTENT[request.name]))


@pytest.fixture
def secret_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path | None]]:
    """A server with `CONTENT`; gives the keys that clients were made with."""
    keys: list[Path | None] = []
    method = grpc.unary_unary_rpc_method_handler(
        _answer,
        request_deserializer=AccessSecretVersionRequest.deserialize,
        response_serializer=AccessSecretVersionResponse.serialize,
    )
    service = "google.cloud.secretmanager.v1.SecretManagerService"
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, {"AccessSecretVersion": method})]
    )
    address = f"unix:{tmp_path / 'secrets.sock'}"
    server.add_insecure_port(address)
    server.start()
    channel = grpc.insecure_channel(address)

    def connect_locally(key_filename: Path | None) -> SecretManagerServiceClient:
        keys.append(key_filename)
        return SecretManagerServiceClient(transport=SecretManagerServiceGrpcTransport(channel=channel))

    monkeypatch.setattr(secrets, "connect", connect_locally)
    yield keys
    channel.close()
    server.stop(None).wait()


@pytest.fixture(autouse=True)
def _bare_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("TASKS_CONFIG", "TASKS_VERSION", "TASKS_KEY_FILENAME", "TASKS_PORT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_secret_is_read_with_the_named_key(
    secret_manager: list[Path | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKS_VERSION", VERSION)
    assert load_settings().port == 7
    monkeypatch.setenv("TASKS_KEY_FILENAME", "account.json")
    assert load_settings().port == 7
    assert secret_manager == [None, Path("account.json")]


def test_the_environment_comes_before_the_secret(
    secret_manager: list[Path | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKS_VERSION", VERSION)
    monkeypatch.setenv("TASKS_PORT", "8")
    settings = load_settings()
    assert (settings.port, settings.service.lease_ms) == (8, 7000)
    assert secret_manager == [None]


def test_a_file_takes_the_place_of_the_secret(
    secret_manager: list[Path | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKS_VERSION", VERSION)
    Path("it.json").write_text('{"PORT": 9}')
    assert load_settings(config_file=Path("it.json")).port == 9
    assert secret_manager == []


@pytest.mark.usefixtures("secret_manager")
@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_names_the_secret_and_says_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    version = f"projects/acme/secrets/{name}/versions/1"
    code, said, advice = REFUSALS[name]
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        monkeypatch.setattr(secrets, "ACCESS_TIMEOUT_S", 1.0)  # for as long it is asked again
    monkeypatch.setenv("TASKS_VERSION", version)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert str(caught.value).startswith(
        f"the configuration in Secret Manager cannot be read: cannot read {version}: "
    )
    assert said in str(caught.value)
    assert advice in str(caught.value)


def test_a_service_that_cannot_be_reached_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens there."""
    channel = grpc.insecure_channel(f"unix:{Path.cwd() / 'nobody.sock'}")
    client = SecretManagerServiceClient(transport=SecretManagerServiceGrpcTransport(channel=channel))
    monkeypatch.setattr(secrets, "connect", lambda _: client)
    monkeypatch.setattr(secrets, "ACCESS_TIMEOUT_S", 0.5)
    with pytest.raises(SecretError, match=r"check the network, then try again"):
        access_secret(VERSION, None)
    channel.close()


@pytest.mark.usefixtures("secret_manager")
def test_a_document_that_is_no_json_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKS_VERSION", NO_JSON)
    with pytest.raises(ConfigError, match=f"{NO_JSON}: not JSON at line 1, column 13") as caught:
        load_settings()
    assert "hidden" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.usefixtures("secret_manager")
def test_the_keys_of_encryption_come_from_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKS_VERSION", KEYS)
    assert load_settings().service.crypto.keyring == KEYRING


@pytest.mark.parametrize(
    "version", ["tasks", "projects/acme/secrets/tasks", "projects/a/secrets/b/versions/"]
)
def test_a_name_that_is_none_is_told_before_anybody_is_asked(
    secret_manager: list[Path | None], version: str
) -> None:
    with pytest.raises(SecretError, match=r"expected projects/PROJECT/secrets/SECRET/versions/VERSION"):
        access_secret(version, None)
    assert secret_manager == []


@pytest.mark.usefixtures("secret_manager")
def test_content_that_is_no_text_is_not_shown() -> None:
    with pytest.raises(SecretError) as caught:
        access_secret(LATIN_1, None)
    assert str(caught.value) == f"cannot read {LATIN_1}: its content is not UTF-8 text"
    assert caught.value.__suppress_context__


def test_a_key_without_a_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKS_KEY_FILENAME", "account.json")
    with pytest.raises(ConfigError, match="expected TASKS_VERSION beside it"):
        load_settings()


def test_a_service_account_key_makes_a_client() -> None:
    private_key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    account = {
        "type": "service_account",
        "client_email": "tasks@acme.test",
        "private_key": private_key.decode(),
        "token_uri": "https://acme.test/token",
    }
    Path("account.json").write_text(json.dumps(account))
    with connect(Path("account.json")) as client:
        assert client.transport.kind == "grpc"


@pytest.mark.parametrize("text", ["hidden", '{"type": "service_account", "private_key": "hidden"}'])
def test_a_key_that_is_none_is_named_and_not_shown(text: str) -> None:
    Path("account.json").write_text(text)
    with pytest.raises(SecretError) as caught:
        connect(Path("account.json"))
    assert str(caught.value).startswith(
        "no usable Google Cloud credentials in account.json; set TASKS_KEY_FILENAME"
    )
    assert caught.value.__suppress_context__


def test_a_missing_key_is_named() -> None:
    with pytest.raises(SecretError, match=r"service account key no\.json: No such file"):
        connect(Path("no.json"))


def test_without_the_extra_the_message_says_how_to_get_it() -> None:
    # A process of its own: what was imported here cannot be made missing.
    code = (
        "import sys; sys.modules['google.cloud.secretmanager'] = None\n"
        "from kuueri_grpc.secrets import access_secret\n"
        "access_secret('projects/acme/secrets/tasks/versions/7', None)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert (
        "SecretError: reading Secret Manager needs the extra 'gcp': pip install 'kuueri-tasks[gcp]'"
        in run.stderr
    )
