"""Where settings come from, which source wins, and what a person is told when one does not fit."""

import json
import os
import re
import subprocess
import sys
import traceback
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from kuueri_grpc.config import ConfigError, Settings, load_settings
from kuueri_grpc.crypto.keyring import EncryptionKey
from tests.example import EXAMPLE, filled_example
from tests.keys import KEYRING

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _bare_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no file of the developer's own reaches a test."""
    for variable in [name for name in os.environ if name.startswith("TASKS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def write(document: object, name: str = "resource/config/config.json") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def fault(config_file: Path | None = None, **command_line: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(command_line, config_file)
    assert "hidden" not in "".join(traceback.format_exception(caught.value)), "a secret is in the traceback"
    return str(caught.value)


# --- sources ----------------------------------------------------------------------------------


def test_defaults_need_no_source(tmp_path: Path) -> None:
    settings = load_settings()
    assert (settings.host, settings.port, settings.level) == ("127.0.0.1", 8202, "INFO")
    assert settings.data_dir == tmp_path / ".local/share/kuueri"
    assert settings.allow_target == ()
    assert settings.redis_url is None
    assert settings.history_ms == 3 * 24 * 3600 * 1000
    assert settings.service.queue.limit is None
    assert settings.service.lease_ms == 5000
    assert settings.database.partitions == 256


def test_data_dir_follows_xdg_unless_relative(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/srv/data")
    assert load_settings().data_dir == Path("/srv/data/kuueri")
    monkeypatch.setenv("XDG_DATA_HOME", "data")
    assert load_settings().data_dir == tmp_path / ".local/share/kuueri"


def test_a_user_without_a_home_has_a_data_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("could not determine home directory")

    monkeypatch.setattr(Path, "home", no_home)
    assert load_settings().data_dir == Path("/var/lib/kuueri")


def test_each_source_beats_the_ones_below(monkeypatch: pytest.MonkeyPatch) -> None:
    write({"PORT": 1, "HOST": "file", "SERVICE": {"LEASE_MS": 1000, "MAX_IN_FLIGHT": 1, "MAX_PER_HOST": 1}})
    monkeypatch.setenv("TASKS_PORT", "2")
    monkeypatch.setenv("TASKS_SERVICE__LEASE_MS", "2000")
    monkeypatch.setenv("TASKS_SERVICE__MAX_IN_FLIGHT", "2")
    settings = load_settings({"port": 3, "service.max_in_flight": 3})
    assert (settings.port, settings.service.max_in_flight) == (3, 3)
    assert settings.service.lease_ms == 2000
    assert (settings.host, settings.service.max_per_host) == ("file", 1)
    assert settings.service.queue.limit is None


def test_an_option_that_is_none_was_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKS_DATABASE__REDIS__URL", "redis://environment")
    settings = load_settings({"port": None, "database.redis.url": None})
    assert settings.port == 8202
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == "redis://environment"


def test_an_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKS_PORT", "")
    assert load_settings().port == 8202


#: What Kubernetes sets for Services `tasks`, `tasks-valkey` and `tasks-admin`, whose port is named "grpc".
SERVICE_LINKS = {
    f"TASKS_{service}{variable}": value
    for service, port in (("", 8202), ("VALKEY_", 6379), ("ADMIN_", 8203))
    for variable, value in {
        "SERVICE_HOST": "10.96.0.7",
        "SERVICE_PORT": f"{port}",
        "SERVICE_PORT_GRPC": f"{port}",
        "PORT": f"tcp://10.96.0.7:{port}",
        f"PORT_{port}_TCP": f"tcp://10.96.0.7:{port}",
        f"PORT_{port}_TCP_PROTO": "tcp",
        f"PORT_{port}_TCP_PORT": f"{port}",
        f"PORT_{port}_TCP_ADDR": "10.96.0.7",
    }.items()
}


def test_variables_of_service_links_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in SERVICE_LINKS.items():
        monkeypatch.setenv(variable, value)
    settings = load_settings()
    assert (settings.port, settings.admin_port) == (Settings().port, Settings().admin_port)


def test_settings_beside_service_links_count(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in SERVICE_LINKS.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("TASKS_PORT", "9000")
    monkeypatch.setenv("TASKS_SERVICE__LEASE_MS", "2000")
    settings = load_settings()
    assert (settings.port, settings.service.lease_ms) == (9000, 2000)


def test_a_misspelt_variable_is_no_service_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKS_SERVICE_HOSTS", "10.96.0.7")
    with pytest.raises(ConfigError, match="unknown variable TASKS_SERVICE_HOSTS"):
        load_settings()


def test_the_file_is_named_by_option_then_variable_then_custom(monkeypatch: pytest.MonkeyPatch) -> None:
    write({"PORT": 1})
    assert load_settings().port == 1
    monkeypatch.setenv("TASKS_CONFIG", str(write({"PORT": 2}, "by-variable.json")))
    assert load_settings().port == 2
    assert load_settings(config_file=write({"PORT": 3}, "by-option.json")).port == 3


def test_keys_of_the_file_are_read_in_either_case() -> None:
    write({"port": 1, "Database": {"REDIS": {"host": "store"}}})
    settings = load_settings()
    assert (settings.port, settings.database.redis.host) == (1, "store")


def test_the_example_names_every_key_and_loads(tmp_path: Path) -> None:
    load_settings(config_file=filled_example(tmp_path))

    def keys(section: type[BaseModel]) -> dict[str, object]:
        below = {name: field.annotation for name, field in section.model_fields.items()}
        return {
            name.upper(): keys(kind) if isinstance(kind, type) and issubclass(kind, BaseModel) else None
            for name, kind in below.items()
        }

    def shape(node: object) -> object:
        return {key: shape(value) for key, value in node.items()} if isinstance(node, dict) else None

    assert shape(json.loads(EXAMPLE.read_text())) == keys(Settings)


def test_settings_made_directly_read_nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKS_PORT", "1")
    write({"PORT": 2})
    assert Settings().port == 8202


# --- values -----------------------------------------------------------------------------------


#: What a rule for targets may be.
RULES = "expected networks such as 10.0.0.0/8 and names such as hooks.example.com or *.example.com"
PROXY = "expected http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT with both percent-encoded"
NO_NETWORK = "'bü.example' does not appear to be an IPv4 or IPv6 network"


def test_networks_come_as_list_or_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
    assert load_settings({"allow_target": ["127.0.0.0/8", "::1"]}).allow_target == expected
    monkeypatch.setenv("TASKS_ALLOW_TARGET", "127.0.0.0/8, ::1/128")
    assert load_settings().allow_target == expected


def test_targets_are_named_too() -> None:
    names = load_settings({"deny_target": ["Pay.Internal.", "*.corp.example", "10.0.0.0/8"]}).deny_target
    assert names == ("pay.internal", "*.corp.example", IPv4Network("10.0.0.0/8"))


@pytest.mark.parametrize(
    ("redis", "url"),
    [
        ({"HOST": "store"}, "redis://store:6379"),
        ({"HOST": "store", "PORT": 1, "PASSWORD": "p@ss/word"}, "redis://:p%40ss%2Fword@store:1"),
        ({"HOST": "::1", "USERNAME": "a:b", "PASSWORD": "c"}, "redis://a%3Ab:c@[::1]:6379"),
        ({"URL": "redis+cluster://a:1,[::1]:2"}, "redis+cluster://a:1,[::1]:2"),
        ({"HOST": "store", "URL": "rediss://other:1/0"}, "rediss://other:1/0"),
        ({"URL": "unix:///run/valkey.sock"}, "unix:///run/valkey.sock"),
        ({"URL": "unix:///run/valkey.sock", "PASSWORD": "c"}, "unix://:c@/run/valkey.sock"),
        ({"URL": "rediss://h:1", "PASSWORD": "p@ss"}, "rediss://:p%40ss@h:1"),
        ({"URL": "redis+cluster://a:1,b:2", "USERNAME": "u", "PASSWORD": "c"}, "redis+cluster://u:c@a:1,b:2"),
        ({"URL": "redis://:own@h", "PASSWORD": "other"}, "redis://:own@h"),
        ({"URL": "rediss://h", "TLS": {"CA": "/etc/ca.pem"}}, "rediss://h?ssl_ca_certs=%2Fetc%2Fca.pem"),
        (
            {"URL": "rediss://h?ssl_ca_certs=ca.pem", "TLS": {"CERT": "c.pem", "KEY": "k.pem"}},
            "rediss://h?ssl_ca_certs=ca.pem&ssl_certfile=c.pem&ssl_keyfile=k.pem",
        ),
    ],
)
def test_store_address(redis: dict[str, object], url: str) -> None:
    write({"DATABASE": {"REDIS": redis}})
    address = load_settings().redis_url
    assert address is not None
    assert address.get_secret_value() == url


def test_history_comes_before_its_older_name() -> None:
    write({"DATABASE": {"REDIS": {"EXPIRATION_KEY": 10}}})
    assert load_settings().history_ms == 10_000
    assert load_settings({"service.history": 20}).history_ms == 20_000


def test_secrets_are_not_shown() -> None:
    settings = Settings.model_validate(
        {
            "service": {"crypto": {"key": KEYRING.reveal()}},
            "database": {"redis": {"url": "redis://:hidden@h", "password": "hidden"}},
        }
    )
    shown = f"{settings!r} {settings} {settings.redis_url!r} {settings.model_dump_json()}"
    assert "hidden" not in shown
    assert KEYRING.reveal().partition(":")[2] not in shown


def test_keys_come_as_text_or_as_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [EncryptionKey.generate().reveal() for _ in range(3)]
    file = write({"SERVICE": {"CRYPTO": {"KEY": keys}}})
    listed = load_settings(config_file=file).service.crypto.keyring
    assert listed is not None
    assert [key.reveal() for key in listed.keys] == keys
    assert load_settings({"service.crypto.key": ",".join(keys)}).service.crypto.keyring == listed
    monkeypatch.setenv("TASKS_SERVICE__CRYPTO__KEY", " ".join(keys))
    assert load_settings().service.crypto.keyring == listed


def test_no_model_shows_what_does_not_fit() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"service": {"crypto": {"key": "hidden"}}})
    assert "hidden" not in str(caught.value)


# --- faults -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "line"),
    [
        ({"PROT": 1}, "PROT in FILE: unknown key; did you mean PORT?"),
        (
            {"X": 1},
            (
                "X in FILE: unknown key; expected one of "
                + ", ".join(sorted(name.upper() for name in Settings.model_fields))
            ),
        ),
        (
            {"DATABASE": {"REDIS": {"HOTS": "x"}}},
            "DATABASE.REDIS.HOTS in FILE: unknown key; did you mean HOST?",
        ),
        ({"PORT": 65536}, "PORT in FILE: expected a number less than or equal to 65535, found 65536"),
        (
            {"PORT": "high"},
            "PORT in FILE: expected a valid integer, unable to parse string as an integer, found 'high'",
        ),
        ({"HOST": ""}, "HOST in FILE: expected to have at least 1 character, found ''"),
        (
            {"LEVEL": "loud"},
            "LEVEL in FILE: expected 'DEVELOPMENT', 'DEBUG', 'INFO', 'WARNING' or 'ERROR', found 'LOUD'",
        ),
        ({"MODULE": 1}, "MODULE in FILE: expected an object with keys of HTTP, GRPC, THROTTLER"),
        (
            {"ALLOW_TARGET": ["10.0.0.1/8"]},
            f"ALLOW_TARGET in FILE: {RULES}: 10.0.0.1/8 has host bits set",
        ),
        (
            {"ALLOW_TARGET": [7]},
            f"ALLOW_TARGET in FILE: {RULES}, one is 7",
        ),
        *(
            ({"EGRESS_PROXY": url}, f"EGRESS_PROXY in FILE: {PROXY}")
            for url in (
                "https://proxy:3128",
                "http://proxy",
                "http://me:secret@proxy:x",
                "http://p:1/path",
                "proxy:1",
            )
        ),
        (
            {"DENY_TARGET": ["10.1"]},
            f"DENY_TARGET in FILE: {RULES}: '10.1' does not appear to be an IPv4 or IPv6 network",
        ),
        (
            {"DENY_TARGET": ["bü.example"]},
            f"DENY_TARGET in FILE: {RULES}: {NO_NETWORK}; write a name in its ASCII form (xn--...)",
        ),
        (
            {"SERVICE": {"LEASE_MS": 1}},
            "SERVICE.LEASE_MS in FILE: expected a number greater than or equal to 500, found 1",
        ),
        (
            {"DATABASE": {"REDIS": {"URL": "http://:hidden@h"}}},
            (
                "DATABASE.REDIS.URL in FILE: expected a URL that starts with redis://, rediss://, unix://, "
                "redis+cluster://, rediss+cluster://"
            ),
        ),
        (
            {"DATABASE": {"REDIS": {"URL": "redis://:hidden@a,b"}}},
            "DATABASE.REDIS.URL in FILE: expected one host; several are a cluster's: redis+cluster://",
        ),
        (
            {"DATABASE": {"REDIS": {"URL": "redis+cluster://:hidden@a:1,b:x"}}},
            "DATABASE.REDIS.URL in FILE: expected a URL, host or port do not parse",
        ),
        (
            {"DATABASE": {"REDIS": {"URL": "redis+cluster://:hidden@a:1,,b:2"}}},
            "DATABASE.REDIS.URL in FILE: expected a URL with a host",
        ),
        (
            {"DATABASE": {"REDIS": {"URL": "rediss+cluster://:hidden@a,b/3"}}},
            "DATABASE.REDIS.URL in FILE: expected a URL without a database number: databases 0 to 3 are used",
        ),
        (
            {"DATABASE": {"REDIS": {"URL": "redis://:hidden@h/5"}}},
            "DATABASE.REDIS.URL in FILE: expected a URL without a database number: databases 0 to 3 are used",
        ),
        (
            {"DATABASE": {"REDIS": {"URL": "redis://:hidden@h:x"}}},
            "DATABASE.REDIS.URL in FILE: expected a URL, host or port do not parse",
        ),
        (
            {"DATABASE": {"REDIS": {"URL": "redis://:hidden@h?max_connections=5"}}},
            (
                "DATABASE.REDIS.URL in FILE: expected a URL without parameters; the files of TLS are set in "
                "TLS.CA, TLS.CERT and TLS.KEY, or as ssl_ca_certs, ssl_certfile, ssl_keyfile"
            ),
        ),
        (
            {"DATABASE": {"REDIS": {"URL": "redis://:hidden@h", "TLS": {"CA": "ca.pem"}}}},
            (
                "DATABASE.REDIS in FILE: TLS is set, expected a URL that starts with rediss:// or "
                "rediss+cluster://"
            ),
        ),
        (
            {"DATABASE": {"REDIS": {"URL": "rediss://h", "TLS": {"CERT": "c.pem"}}}},
            "DATABASE.REDIS.TLS in FILE: expected CERT and KEY together, one of them is missing",
        ),
        (
            {"DATABASE": {"REDIS": {"URL": "redis://"}}},
            "DATABASE.REDIS.URL in FILE: expected a URL with a host",
        ),
        (
            {"DATABASE": {"REDIS": {"PASSWORD": "hidden"}}},
            "DATABASE.REDIS in FILE: USERNAME and PASSWORD are set, expected HOST or URL beside them",
        ),
        ({"SERVICE": {"CRYPTO": {"KEY": 5}}}, "SERVICE.CRYPTO.KEY in FILE: expected a valid string"),
        ({"SERVICE": {"CRYPTO": "hidden"}}, "SERVICE.CRYPTO in FILE: expected an object with keys of KEY"),
    ],
)
def test_a_fault_names_key_file_and_expectation(document: object, line: str) -> None:
    message = fault(write(document, "it.json"))
    assert message == "the configuration is not valid:\n  " + line.replace("FILE", "it.json")


def test_every_fault_is_named_with_its_own_source(monkeypatch: pytest.MonkeyPatch) -> None:
    write({"PORT": -1, "LEVEL": "loud"})
    monkeypatch.setenv("TASKS_DATABASE__PARTITIONS", "none")
    monkeypatch.setenv("TASKS_DATABASE__REDIS__HOTS", "x")
    heading, *lines = fault(host="").splitlines()
    assert heading == "the configuration is not valid:"
    assert sorted(line.split(":")[0].strip() for line in lines) == [
        "DATABASE.PARTITIONS in the environment (TASKS_DATABASE__PARTITIONS)",
        "DATABASE.REDIS.HOTS in the environment (TASKS_DATABASE__REDIS__HOTS)",
        "HOST on the command line",
        "LEVEL in resource/config/config.json",
        "PORT in resource/config/config.json",
    ]


def test_an_unknown_variable_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKS_DATABSE__PARTITIONS", "1")
    assert fault().startswith("unknown variable TASKS_DATABSE__PARTITIONS in the environment; ")


def test_a_section_in_one_variable_must_be_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKS_DATABASE", "hidden")
    message = fault()
    assert '"database"' in message
    assert "expected JSON" in message
    assert "hidden" not in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"PORT": 1,}', r"it\.json: not JSON at line 1, column 1\d: .+"),
        ("[]", r"it\.json: expected a JSON object"),
        ('{"PORT": 1, "port": 2}', r"it\.json: the key PORT is there twice in one object"),
    ],
)
def test_a_file_that_is_no_document(text: str, message: str) -> None:
    assert re.fullmatch(message, fault(write(text, "it.json")))


def test_when_the_embedded_store_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().database.fsync == "always"
    write({"DATABASE": {"FSYNC": "EverySec"}})
    assert load_settings().database.fsync == "everysec"
    assert load_settings({"database.fsync": "always"}).database.fsync == "always"
    monkeypatch.setenv("TASKS_DATABASE__FSYNC", "no")
    assert "DATABASE.FSYNC in the environment (TASKS_DATABASE__FSYNC): " in fault()
    assert "'always' or 'everysec'" in fault()


def test_a_named_file_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fault(Path("no.json")) == "the configuration file no.json does not exist"
    monkeypatch.setenv("TASKS_CONFIG", "not-here.json")
    assert fault() == "the configuration file not-here.json does not exist"


def test_a_file_that_cannot_be_read() -> None:
    Path("folder.json").mkdir()
    assert "folder.json cannot be read" in fault(Path("folder.json"))


def test_loading_costs_no_cloud_import() -> None:
    code = "import sys, kuueri_grpc.config as c; c.load_settings(); sys.exit('google.cloud' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- registration -----------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["variable", "file"])
def test_the_admin_token_comes_from_where_other_secrets_do(
    monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    if source == "variable":
        monkeypatch.setenv("TASKS_ADMIN_TOKEN", ADMIN_TOKEN)
    else:
        write({"ADMIN_TOKEN": ADMIN_TOKEN})
    settings = load_settings()
    assert settings.admin_token is not None
    assert settings.admin_token.get_secret_value() == ADMIN_TOKEN
    assert "hidden" not in f"{settings!r} {settings}"


ADMIN_TOKEN = "hidden-from-everybody-but-clients"


@pytest.mark.parametrize("token", [ADMIN_TOKEN[:31], "h", "hidden" * 10, "0" * 64])
def test_an_admin_token_that_can_be_guessed_is_refused_and_not_shown(token: str) -> None:
    text = fault(write({"ADMIN_TOKEN": token}))
    assert (
        "ADMIN_TOKEN in resource/config/config.json: expected at least 32 random characters, which no guess "
        "meets; `openssl rand -hex 32` makes them"
    ) in text
    assert len(token) == 1 or token not in text


@pytest.mark.parametrize("token", [ADMIN_TOKEN[:32], "00112233445566778899aabbccddeeff"])
def test_one_of_32_characters_is_taken(token: str) -> None:
    assert load_settings(config_file=write({"ADMIN_TOKEN": token})).admin_token is not None


@pytest.mark.parametrize("token", ["hidden token", "hidden\n", "hidd\u00e9n"])
def test_an_admin_token_that_no_client_can_send_is_refused_and_not_shown(token: str) -> None:
    text = fault(write({"ADMIN_TOKEN": token}))
    assert "ADMIN_TOKEN in resource/config/config.json: expected printable ASCII" in text
    assert token not in text


def test_development_is_a_level_that_logs_as_debug() -> None:
    assert load_settings({"level": "development"}).log_level == "DEBUG"
    assert load_settings({"level": "warning"}).log_level == "WARNING"
