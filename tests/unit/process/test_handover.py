"""What a worker is told is what the supervisor knows."""

from pathlib import Path
from select import PIPE_BUF

import pytest

from kuueri_grpc.config import Settings, load_settings
from kuueri_grpc.process.handover import (
    Answer,
    Beat,
    Order,
    pack_answer,
    pack_beat,
    pack_order,
    unpack_answer,
    unpack_order,
)
from tests.example import filled_example


def test_settings_arrive_whole_with_their_secrets(tmp_path: Path) -> None:
    settings = load_settings(
        {
            "allow_target": ["10.0.0.0/8", "fd00::/8", "pay.internal"],
            "database.redis.password": "top secret\n",
        },
        filled_example(tmp_path),
    )
    line = pack_order(Order(settings))
    assert line.count(b"\n") == 1
    received = unpack_order(line).settings
    assert received == settings
    assert received.redis_url == settings.redis_url
    assert received.service.crypto.keyring == settings.service.crypto.keyring


def test_what_was_not_set_stays_unset() -> None:
    settings = Settings()
    for socket in (None, Path("/run/kuueri/worker.sock")):
        order = Order(settings, socket)
        assert unpack_order(pack_order(order)) == order


def test_an_answer_arrives_as_it_was_given() -> None:
    for answer in (Answer(), Answer("two\nlines")):
        line = pack_answer(answer)
        assert "\n" not in line
        assert unpack_answer(line.encode()) == answer


def test_a_beat_is_heard_and_is_small_enough_to_come_whole() -> None:
    line = pack_beat()
    assert unpack_answer(line) == Beat()
    assert len(line) < PIPE_BUF


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"hello\n",
        b"\xff\n",
        b"7\n",
        b"[]\n",
        b"{}\n",
        b'{"fault": null}\n',
        b'{"beat": 1.5}\n',
        b"[" * 100_000,
    ],
)
def test_what_is_no_answer_is_none(line: bytes) -> None:
    assert unpack_answer(line) is None
