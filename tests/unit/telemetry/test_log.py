"""Log lines: what is in them in either form, and what never is."""

import json
import logging
import re
from collections.abc import Iterator

import pytest

from kuueri_grpc.telemetry.log import configure_logging, redact, set_instance

_log = logging.getLogger("kuueri_grpc.some.module")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("kuueri_grpc")
    before = (root.handlers[:], root.level, ours.level)
    yield
    root.handlers[:], level, our_level = before
    root.setLevel(level)
    ours.setLevel(our_level)


def warn() -> None:
    _log.warning("lost %d", 2, extra={"event": "lease_lost", "project": "p1", "task": "t1", "attempt": 3})


def fail(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        _log.exception("it broke down", extra={"event": "broke"})


def written(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the lines so far, which a thread writes."""
    for handler in logging.getLogger().handlers:
        handler.flush()
    return capsys.readouterr().err


def test_a_line_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO")
    set_instance("i1")
    warn()
    line = written(capsys)
    text = "kuueri_grpc.some.module: lost 2 event=lease_lost project=p1 task=t1 attempt=3 instance=i1"
    assert re.fullmatch(rf"[\d-]+ [\d:,]+ WARNING {text}\n", line)


def test_a_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    set_instance("i1")
    warn()
    (line,) = written(capsys).splitlines()
    fields = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", fields.pop("time"))
    assert fields == {
        "level": "WARNING",
        "logger": "kuueri_grpc.some.module",
        "message": "lost 2",
        "event": "lease_lost",
        "project": "p1",
        "task": "t1",
        "attempt": 3,
        "instance": "i1",
    }


def test_an_outage_that_comes_and_goes_fills_no_log(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    for number in range(50):
        for event in ("store_outage_began", "store_outage_ended"):
            _log.warning("outage", extra={"event": event, "kind": "auth", "number": number})
        _log.warning("lost", extra={"event": "lease_lost", "task": f"t{number}"})
    _log.warning("outage", extra={"event": "store_outage_began", "kind": "timeout"})
    for handler in logging.getLogger().handlers:
        handler.close()
    lines = [json.loads(line) for line in written(capsys).splitlines()]
    assert sum(line["event"] == "lease_lost" for line in lines) == 50
    began = [line for line in lines if line["event"] == "store_outage_began" and line["kind"] == "auth"]
    assert [line["number"] for line in began] == [0, 1, 2, 49]
    assert [line.get("repeated") for line in began] == [None, None, None, 46]
    assert sum(line.get("kind") == "timeout" for line in lines) == 1


def test_a_traceback_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "json")
    fail('said "no",\n\\ twice')
    (line,) = written(capsys).splitlines()
    fields = json.loads(line)
    assert fields["message"] == "it broke down"
    assert fields["exception"].endswith('ValueError: said "no",\n\\ twice')


def test_a_traceback_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO")
    fail("no")
    first, *rest = written(capsys).splitlines()
    assert first.endswith("it broke down event=broke")
    assert rest[0] == "Traceback (most recent call last):"
    assert rest[-1] == "ValueError: no"


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR"])
def test_the_level_is_of_this_project_alone(capsys: pytest.CaptureFixture[str], level: str) -> None:
    configure_logging(level)
    for name in ("kuueri_grpc.engine", "aiohttp.client"):
        for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            logging.getLogger(name).log(number, "-%s-%s-", name, logging.getLevelName(number))
    lines = re.findall(r"-(\S+)-([A-Z]+)-", written(capsys))
    levels = ["DEBUG", "INFO", "WARNING", "ERROR"]
    ours = [("kuueri_grpc.engine", name) for name in levels[levels.index(level) :]]
    assert lines == [*ours, ("aiohttp.client", "WARNING"), ("aiohttp.client", "ERROR")]


SECRET = "xX5ecretXx"


@pytest.mark.parametrize(
    "text",
    [
        f"token kq_0123456789abcdef0123_{SECRET}_abc123 was given",
        f"secret whsec_{SECRET}+/= is wrong",
        f"sent authorization: Bearer {SECRET}",
        f"sent Authorization: basic {SECRET}",
        f"at https://example.com/path?key={SECRET}&b=1",
        f'at "http://example.com?{SECRET}"',
        f"at http://user:{SECRET}@example.com/",
        f"at redis://:{SECRET}@10.0.0.1:6379/0",
        f"at rediss://{SECRET}:x@10.0.0.1:6379",
    ],
)
@pytest.mark.parametrize("log_format", ["human", "json"])
def test_secrets_are_cut_out(capsys: pytest.CaptureFixture[str], log_format: str, text: str) -> None:
    configure_logging("INFO", "json" if log_format == "json" else "human")
    _log.info("%s", text, extra={"detail": text})
    fail(text)
    lines = written(capsys)
    assert SECRET not in lines
    assert "it broke down" in lines
    if log_format == "json":
        assert [json.loads(line)["level"] for line in lines.splitlines()] == ["INFO", "ERROR"]


@pytest.mark.parametrize(
    "text",
    [
        "the store at 127.0.0.1:6379 does not serve",
        "GET https://example.com/a/b was refused",
        "is it there? yes @home",
        "kq is short",
        "task kq_ of mail you@example.com",
    ],
)
def test_the_rest_is_left_as_it_is(text: str) -> None:
    assert redact(text) == text
