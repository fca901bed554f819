"""What the store keeps sealed, and what becomes of it when it does not open."""

import base64
import json
import logging

import pytest
from hypothesis import given

from kuueri_grpc.crypto.keyring import EncryptionKey, Keyring
from kuueri_grpc.domain.task import UNREADABLE_TARGET, HttpTarget
from kuueri_grpc.store import codec
from kuueri_grpc.store.vault import Vault
from tests.unit.store.test_codec import targets

OLD, NEW = EncryptionKey("old", b"o" * 32), EncryptionKey("new", b"n" * 32)
BEFORE, AFTER = Vault(Keyring((OLD,))), Vault(Keyring((NEW, OLD)))
TARGET = HttpTarget("https://target.example/hook", headers={"x-token": "hidden"}, body=b"hidden")


def signing(vault: Vault, *secrets: tuple[str, int | None], project: str = "project") -> bytes:
    """Return signing secrets as they are kept."""
    return codec.pack_signing([(vault.seal_signing(project, s), expiry) for s, expiry in secrets]).encode()


@given(targets)
def test_requests_are_read_as_they_were(target: HttpTarget) -> None:
    assert AFTER.open_request("project", "task", AFTER.seal_request("project", "task", target)) == target


@pytest.mark.parametrize(("project", "task"), [("project", "other"), ("other", "task"), ("projec", "ttask")])
def test_a_request_of_another_task_does_not_open(project: str, task: str) -> None:
    kept = BEFORE.seal_request("project", "task", TARGET)
    with pytest.raises(codec.CorruptRecord, match="request cannot be read: it does not open"):
        BEFORE.open_request(project, task, kept)


def test_a_request_in_clear_is_not_taken() -> None:
    """Who can write to the store could make requests otherwise."""
    with pytest.raises(codec.CorruptRecord, match="not a sealed record"):
        BEFORE.open_request("project", "task", codec.pack_request(TARGET))


def test_a_request_under_a_key_that_is_elsewhere_says_which() -> None:
    with pytest.raises(codec.KeyElsewhere) as caught:
        BEFORE.open_request("project", "task", AFTER.seal_request("project", "task", TARGET))
    assert caught.value.key_id == "new"


def test_a_task_is_shown_without_a_request_that_does_not_open(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert BEFORE.show_request("project", "task", b"damaged") is UNREADABLE_TARGET
    assert [record.__dict__["event"] for record in caplog.records] == ["request_unreadable"]


def test_a_request_is_sealed_anew_under_the_newest_key() -> None:
    kept = BEFORE.seal_request("project", "task", TARGET)
    resealed = AFTER.reseal_request("project", "task", kept)
    assert resealed.startswith(AFTER.newest_head)
    assert AFTER.open_request("project", "task", resealed) == TARGET


def test_which_secrets_sign() -> None:
    kept = signing(BEFORE, ("new", None), ("ending", 100), ("over", 50))
    assert AFTER.live_signing("project", kept, 49) == ("new", "ending", "over")
    assert AFTER.live_signing("project", kept, 50) == ("new", "ending")
    assert AFTER.live_signing("project", kept, 100) == ("new",)


def test_a_signing_secret_of_another_project_does_not_open() -> None:
    with pytest.raises(codec.CorruptRecord, match="signing secret cannot be read"):
        BEFORE.live_signing("other", signing(BEFORE, ("secret", None)), 0)


def test_no_project_signs_with_what_was_remembered_of_another() -> None:
    kept = signing(BEFORE, ("secret", None))
    assert BEFORE.live_signing("project", kept, 0) == ("secret",)
    with pytest.raises(codec.CorruptRecord):
        BEFORE.live_signing("other", kept, 0)


@pytest.mark.parametrize("damage", ["bm90IHNlYWxlZA==", "not base64", "whsec_in-clear"])
def test_a_former_secret_that_does_not_open_is_left_out(
    damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    kept = codec.pack_signing([(BEFORE.seal_signing("project", "new"), None), (damage, 100)]).encode()
    assert BEFORE.live_signing("project", kept, 0) == ("new",)
    assert [record.__dict__["event"] for record in caplog.records] == ["signing_secret_unreadable"]
    with pytest.raises(codec.CorruptRecord):
        BEFORE.live_signing("project", codec.pack_signing([(damage, None)]).encode(), 0)


@pytest.mark.parametrize("kept", [b"", b"{", b"[1]", b'[{"s": "a"}]', b"\xff"])
def test_what_is_no_list_of_secrets_is_corrupt(kept: bytes) -> None:
    with pytest.raises(codec.CorruptRecord):
        BEFORE.live_signing("project", kept, 0)


def test_signing_secrets_are_sealed_anew_with_their_expiry() -> None:
    kept = signing(BEFORE, ("new", None), ("ending", 100))
    resealed = AFTER.reseal_signing("project", kept)
    assert resealed is not None
    assert AFTER.live_signing("project", resealed.encode(), 0) == ("new", "ending")
    assert AFTER.live_signing("project", resealed.encode(), 100) == ("new",)
    assert all(base64.b64decode(s["s"]).startswith(AFTER.newest_head) for s in json.loads(resealed))
    assert AFTER.reseal_signing("project", resealed.encode()) is None


def test_fingerprints_are_known_again_after_a_change_of_keys() -> None:
    kept = BEFORE.fingerprints("project", "digest")
    newest, *older = AFTER.fingerprints("project", "digest").split()
    assert older == [kept]
    assert newest != kept
    assert "digest" not in kept
    assert BEFORE.fingerprints("other", "digest") != kept
