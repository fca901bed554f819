"""A record opens in its place, whole, with its key; in every other case it does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuueri_grpc.crypto.keyring import EncryptionKey, Keyring
from kuueri_grpc.crypto.sealing import KeyMissing, NotOpened, Sealer

OLD, NEW = EncryptionKey("old", b"o" * 32), EncryptionKey("new", b"n" * 32)
BEFORE, AFTER = Sealer(Keyring((OLD,))), Sealer(Keyring((NEW, OLD)))
PLACE = b"request\0project\0task"


@given(st.binary(max_size=300), st.binary(max_size=50))
def test_what_was_sealed_opens_in_its_place(plaintext: bytes, place: bytes) -> None:
    assert BEFORE.open(place, BEFORE.seal(place, plaintext)) == plaintext


@given(st.binary(min_size=1, max_size=300))
def test_nothing_of_it_can_be_seen(plaintext: bytes) -> None:
    record = BEFORE.seal(PLACE, plaintext * 16)
    assert plaintext * 16 not in record
    assert record != BEFORE.seal(PLACE, plaintext * 16)


def test_it_is_sealed_with_the_newest_key_and_opened_with_any() -> None:
    before, after = BEFORE.seal(PLACE, b"a"), AFTER.seal(PLACE, b"b")
    assert AFTER.open(PLACE, before) == b"a"
    assert AFTER.open(PLACE, after) == b"b"
    assert after.startswith(AFTER.head)
    assert not before.startswith(AFTER.head)
    with pytest.raises(KeyMissing, match="under the key 'new', which is not among") as caught:
        BEFORE.open(PLACE, after)
    assert caught.value.key_id == "new"


@pytest.mark.parametrize(
    "place", [b"request\0project\0task2", b"request\0other\0task", b"signing\0project", b""]
)
def test_it_does_not_open_in_another_place(place: bytes) -> None:
    with pytest.raises(NotOpened, match="does not open with the key 'old'"):
        BEFORE.open(place, BEFORE.seal(PLACE, b"secret"))


def test_it_does_not_open_under_another_key_s_name() -> None:
    """Two ids of one key: what names the other one was changed."""
    twins = Sealer(Keyring((OLD, EncryptionKey("new", OLD.material))))
    record = twins.seal(PLACE, b"secret")
    renamed = record.replace(b"old", b"new", 1)
    with pytest.raises(NotOpened, match="does not open with the key 'new'"):
        twins.open(PLACE, renamed)


def test_a_change_of_any_bit_is_noticed() -> None:
    record = BEFORE.seal(PLACE, b"secret")
    for place in range(len(record)):
        for bit in range(8):
            changed = bytearray(record)
            changed[place] ^= 1 << bit
            with pytest.raises(NotOpened):
                BEFORE.open(PLACE, bytes(changed))


def test_what_is_cut_off_anywhere_is_noticed() -> None:
    record = BEFORE.seal(PLACE, b"secret")
    for length in range(len(record)):
        with pytest.raises(NotOpened):
            BEFORE.open(PLACE, record[:length])


@given(st.binary(max_size=100))
def test_what_is_no_record_is_refused(blob: bytes) -> None:
    with pytest.raises(NotOpened):
        AFTER.open(PLACE, blob)


def test_no_nonce_comes_twice() -> None:
    start = len(BEFORE.head)
    nonces = {BEFORE.seal(PLACE, b"")[start : start + 12] for _ in range(10_000)}
    assert len(nonces) == 10_000


def test_equal_texts_have_equal_digests_under_each_key() -> None:
    newest, older = AFTER.digests(b"text")
    assert [older] == BEFORE.digests(b"text")
    assert newest != older
    assert AFTER.digests(b"other")[0] not in (newest, older)
