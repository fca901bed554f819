"""Scripts are read from their files at the start, and never again."""

from pathlib import Path

import pytest

from kuueri_grpc.store import scripts

LUA = Path(scripts.__file__).parent / "lua"


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    scripts.forget_all()


@pytest.mark.parametrize("one_database", [False, True])
def test_after_the_start_no_file_is_opened(monkeypatch: pytest.MonkeyPatch, *, one_database: bool) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise OSError(24, "Too many open files")

    scripts.read_all()
    monkeypatch.setattr(Path, "read_text", refuse)
    shared = {"prelude"}
    names = {file.stem for file in LUA.glob("*.lua") if not file.stem.startswith("lib_")} - shared
    assert {"claim", "report", "renew", "subscribe", "announce"} <= names
    for name in names:
        assert scripts.script(name).source.startswith("#!lua")
        # As `ScriptRunner` asks for it, on a single server and on a cluster.
        assert scripts.script(name, one_database=one_database).source.startswith("#!lua")
