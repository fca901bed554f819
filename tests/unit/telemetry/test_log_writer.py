"""The thread that writes the log: nothing waits for it, and what is lost is counted."""

import os
from collections.abc import Iterator

import pytest

from kuueri_grpc.telemetry import log_writer
from kuueri_grpc.telemetry.log_repeats import AGAIN_S, AT_ONCE, Repeats
from kuueri_grpc.telemetry.log_writer import LogWriter, write_if_read, writer_of

PATIENCE_S = 30.0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe: to read from, to write to."""
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError:
            continue


def fill(descriptor: int) -> int:
    """Fill a pipe; return how many bytes that took."""
    os.set_blocking(descriptor, False)
    filled = 0
    for size in (65_536, 1):
        while True:
            try:
                filled += os.write(descriptor, b"-" * size)
            except BlockingIOError:
                break
    os.set_blocking(descriptor, True)
    return filled


def read(descriptor: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += os.read(descriptor, count - len(data))
    return data


def lines(descriptor: int, count: int) -> list[str]:
    data = b""
    while data.count(b"\n") < count:
        data += os.read(descriptor, 65_536)
    return data.decode().splitlines()


def writer(descriptor: int) -> LogWriter:
    return LogWriter(writer_of(os.fdopen(descriptor, "w", closefd=False)), lambda count: f"{count} dropped")


def test_a_pipe_that_is_not_read_holds_up_nothing(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "MOST_LINES", 10)
    filled = fill(pipe[1])
    log = writer(pipe[1])
    log.put(lambda _: "first")
    log.flush(0.01)  # it is being written now, for as long as nobody reads
    for number in range(25):
        log.put(lambda _, number=number: f"line {number}")  # type: ignore[misc]
    log.close(0.01)
    read(pipe[0], filled)
    written = lines(pipe[0], 1)
    while "dropped" not in written[-1]:
        written += lines(pipe[0], 1)
    # One of them more where the first was taken by the thread already.
    kept = len(written) - 2
    assert kept in {9, 10}
    assert written == ["first", *(f"line {number}" for number in range(kept)), f"{25 - kept} dropped"]
    log.close(PATIENCE_S)


def test_bytes_that_wait_are_bounded(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "MOST_LETTERS", 1_000)
    filled = fill(pipe[1])
    log = writer(pipe[1])
    for _ in range(4):
        log.put(lambda _: "x" * 600)
    read(pipe[0], filled)
    written = lines(pipe[0], 2)
    while "dropped" not in written[-1]:
        written += lines(pipe[0], 1)
    assert written[-1] in {"2 dropped", "3 dropped"}
    log.close(PATIENCE_S)


def test_a_pipe_that_was_closed_ends_nothing(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    log = writer(pipe[1])
    for _ in range(3):
        log.put(lambda _: "line")
        log.flush(PATIENCE_S)
    log.close(PATIENCE_S)


def test_lines_are_written_before_the_end(pipe: tuple[int, int]) -> None:
    log = writer(pipe[1])
    for number in range(100):
        log.put(lambda _, number=number: f"{number}")  # type: ignore[misc]
    log.close(PATIENCE_S)
    assert lines(pipe[0], 100) == [str(number) for number in range(100)]


def test_what_was_held_back_is_written_at_the_end(pipe: tuple[int, int]) -> None:
    log = writer(pipe[1])
    for number in range(AT_ONCE + 5):
        log.put(lambda others, number=number: f"{number} {others}", "outage")  # type: ignore[misc]
    log.put(lambda _: "other")
    log.close(PATIENCE_S)
    at_once = [f"{number} 0" for number in range(AT_ONCE)]
    assert lines(pipe[0], AT_ONCE + 2) == [*at_once, "other", f"{AT_ONCE + 4} 4"]


def test_a_kind_of_line_comes_once_a_minute_when_it_repeats() -> None:
    repeats, written = Repeats(), []
    for second in range(600):
        for state in ("began", "ended"):
            line = repeats.passed(state, lambda others: f"{others}", float(second))
            written += [line] * (line is not None)
        written += repeats.take_due(float(second))
    assert len(written) == 2 * (AT_ONCE + 9)
    assert written[-2:] == ["59", "59"]


def test_the_last_of_two_kinds_is_how_things_are() -> None:
    repeats = Repeats()
    for number in range(AT_ONCE + 2):
        for state in ("began", "ended"):
            repeats.passed(state, lambda _, state=state, number=number: f"{state} {number}", 0.0)  # type: ignore[misc]
    assert repeats.next_due_s(1.0) == AGAIN_S - 1
    assert repeats.take_due(AGAIN_S - 1) == []
    assert repeats.take_due(AGAIN_S) == [f"began {AT_ONCE + 1}", f"ended {AT_ONCE + 1}"]
    assert repeats.next_due_s(AGAIN_S) is None


def test_a_short_text_is_written_only_where_it_is_read(pipe: tuple[int, int]) -> None:
    with os.fdopen(pipe[1], "w", closefd=False) as stream:
        assert write_if_read(stream, "ready\n")
        filled = fill(pipe[1])
        assert not write_if_read(stream, "ready\n")
        assert read(pipe[0], filled + 6)[:6] == b"ready\n"
        os.close(pipe[0])
        assert not write_if_read(stream, "ready\n")
    assert not write_if_read(None, "ready\n")
