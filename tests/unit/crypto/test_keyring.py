"""Keys as operators write them, and that no text about them shows one."""

import base64
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuueri_grpc.crypto.keyring import EncryptionKey, Keyring, KeysInvalid

MATERIAL = bytes(range(1, 33))
BASE64 = base64.b64encode(MATERIAL).decode()

key_ids = st.from_regex(r"[A-Za-z0-9_-]{1,32}", fullmatch=True)
keyrings = st.lists(
    st.builds(EncryptionKey, key_ids, st.binary(min_size=32, max_size=32)),
    min_size=1,
    max_size=4,
    unique_by=lambda key: key.key_id,
).map(lambda keys: Keyring(tuple(keys)))


@given(keyrings)
def test_what_is_revealed_is_read_as_it_was(keyring: Keyring) -> None:
    assert Keyring.parse(keyring.reveal()) == keyring


def test_keys_come_with_commas_blanks_lines_and_comments() -> None:
    text = f"# the new one\nnew:{BASE64}  # since spring\n\n old:{BASE64},older:{BASE64}\n"
    assert Keyring.parse(text).ids == ("new", "old", "older")


@pytest.mark.parametrize(
    "encoded",
    [
        BASE64,
        BASE64.rstrip("="),
        base64.urlsafe_b64encode(MATERIAL).decode(),
    ],
)
def test_base64_of_either_alphabet_with_or_without_padding(encoded: str) -> None:
    assert Keyring.parse(f"a:{encoded}").newest.material == MATERIAL


def test_a_bare_key_has_an_id_that_is_its_own() -> None:
    bare = Keyring.parse(BASE64).newest
    assert bare == Keyring.parse(BASE64).newest
    assert bare == Keyring.parse(bare.reveal()).newest
    assert bare.key_id != Keyring.parse(base64.b64encode(bytes(32)).decode()).newest.key_id


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no key in it"),
        (" , \n# nothing", "there is no key in it"),
        ("replace-me", "key 1 has 7 bytes; expected `id:base64` of 32 random bytes"),
        ("hidden!", "key 1 is not base64"),
        (f"a:{BASE64},b:hidden!", r"key 2 \(b\) is not base64"),
        (f"a:{BASE64[:-8]}", r"key 1 \(a\) has 27 bytes"),
        (f"a b:{BASE64}", "key 1 "),
        (f"ü:{BASE64}", "the id of key 1 is not 1-32 of"),
        (f":{BASE64}", "the id of key 1 is not 1-32 of"),
        (f"a:{BASE64},a:{base64.b64encode(bytes(32)).decode()}", "two keys have the id 'a'"),
    ],
)
def test_what_is_no_key_is_named_and_not_shown(text: str, said: str) -> None:
    with pytest.raises(KeysInvalid, match=said) as caught:
        Keyring.parse(text)
    shown = "".join(traceback.format_exception(caught.value))
    assert "hidden" not in shown
    assert BASE64[:8] not in shown


def test_a_key_that_is_made_is_new_every_time() -> None:
    keys = [EncryptionKey.generate() for _ in range(100)]
    assert len({key.material for key in keys}) == len({key.check_value for key in keys}) == 100
    assert all(Keyring.parse(key.reveal()).newest == key for key in keys)


def test_nothing_that_is_printed_shows_a_key() -> None:
    keyring = Keyring.parse(f"a:{BASE64}")
    for shown in (repr(keyring), str(keyring), repr(keyring.newest), f"{keyring.newest}"):
        assert "'a'" in shown
        assert BASE64 not in shown
        assert repr(MATERIAL)[2:20] not in shown


def test_older_keys_are_put_behind_unless_their_id_is_there() -> None:
    a, b, other_a = (EncryptionKey(key_id, bytes([n]) * 32) for key_id, n in (("a", 1), ("b", 2), ("a", 3)))
    assert Keyring((a,)).with_older(Keyring((other_a, b))).keys == (a, b)
    assert Keyring((a, b)).behind(b).keys == (b, a)
