"""The command line as a whole: what ends it, and with what."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import typer

from kuueri_grpc import __version__
from kuueri_grpc.cli import main
from kuueri_grpc.cli.errors import CliError
from kuueri_grpc.cli.root import COMMANDS, root

Run = Callable[..., tuple[int, str, str]]


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"kuueri {__version__}\n", "")


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_lists_every_command(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    for name in COMMANDS:
        assert f"\n  {name} " in out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_of_a_command_what_its_own_help_says(name: str) -> None:
    command: Any = root.get_command(typer.Context(root), name)
    assert command.help.replace("\n", " ").startswith(COMMANDS[name][1])


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_command_has_help(run: Run, name: str, option: str) -> None:
    code, out, err = run(name, option)
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: kuueri {name} ")


@pytest.mark.parametrize("group", [("keys",), ("project",), ("project", "token")])
def test_a_group_alone_prints_its_help(run: Run, group: tuple[str, ...]) -> None:
    assert run(*group) == run(*group, "--help")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_a_script_that_calls_the_command(run: Run, shell: str) -> None:
    code, out, err = run("completion", shell)
    assert (code, err) == (0, "")
    assert f"_KUUERI_COMPLETE=complete_{shell}" in out


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("kuueri su", "subscribe"),
        ("kuueri project to", "token"),
        ("kuueri subscribe --attempt", "--attempt-timeout"),
    ],
)
def test_a_shell_gets_what_a_word_may_become(words: str, completed: str) -> None:
    asked = {"_KUUERI_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    command = [sys.executable, "-m", "kuueri_grpc.cli"]
    done = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == ([completed], "")


def test_options_are_in_sections(run: Run) -> None:
    _, out, _ = run("subscribe", "--help")
    sections = [line for line in out.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert sections == [
        "Arguments:",
        "Options:",
        "Request:",
        "Schedule:",
        "Retry, after an error answer:",
        "Repeat, after a success answer:",
        "Connection:",
    ]


def test_help_loads_nothing_that_a_command_needs() -> None:
    code = (
        "import sys; from kuueri_grpc.cli.entry import run; run(['--help']);"
        "sys.exit(str({'grpc', 'google', 'aiohttp', 'redis', 'rich', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "set()\n"


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("nope",), "No such command 'nope'.", "`kuueri --help`"),
        (("subcsribe",), "No such command 'subcsribe'. Did you mean 'subscribe'?", "`kuueri --help`"),
        (("project", "got"), "No such command 'got'. Did you mean 'get'?", "`kuueri project --help`"),
        (("get",), "Missing argument 'TASK_ID'.", "`kuueri get --help`"),
        (("get", "t", "--nope"), "No such option: --nope", "`kuueri get --help`"),
        (("subscribe", "u", "--delay", "x"), "'x' is not a duration", "`kuueri subscribe --help`"),
        (("subscribe", "u", "--at", "x"), "'x' is not an instant", "`kuueri subscribe --help`"),
        (("subscribe", "u", "--method", "x"), "'x' is not one of POST, PUT, ", "`kuueri subscribe --help`"),
        (("list", "-a", "x:y"), "'x:y' is not an address", "`kuueri list --help`"),
        (("target", "--status", "x"), "'x' is not a status", "`kuueri target --help`"),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong_and_where_help_is(
    run: Run, arguments: tuple[str, ...], message: str, hint: str
) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err.splitlines()[0]
    assert err.splitlines()[1] == f"hint: {hint} shows what there is"


def test_a_wrong_command_line_is_json_where_json_was_asked_for(run: Run) -> None:
    code, out, err = run("get", "--json")
    assert (code, out) == (2, "")
    assert json.loads(err) == {
        "error": {
            "code": "USAGE",
            "message": "Missing argument 'TASK_ID'.",
            "hint": "`kuueri get --help` shows what there is",
        }
    }


@pytest.mark.parametrize(
    ("arguments", "odd"),
    [
        (("get", "task-\udcff"), "'task-\\udcff'"),
        (("get", "t", "-a", "a\udcff"), "'a\\udcff'"),
        (("list", "--label", "a=\udcff"), "'a=\\udcff'"),
        (("subscribe", "http://x/\udcff"), "'http://x/\\udcff'"),
        (("subscribe", "http://x/", "-H", "a: \udcff", "--data", "\udcff"), "'a: \\udcff'"),
    ],
)
def test_bytes_that_are_no_text_are_named(run: Run, arguments: tuple[str, ...], odd: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err == f"error: {odd} is not UTF-8; only --data and files may be other bytes\n"


def test_ctrl_c_is_quiet(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kuueri_grpc.cli.tasks.Client.call", interrupted)
    assert run("get", "t") == (130, "", "")


def test_the_exit_code_is_that_of_the_error(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    def failing(*_arguments: object, **_options: object) -> None:
        raise CliError("broken", exit_code=7)

    monkeypatch.setattr("kuueri_grpc.cli.tasks.Client.call", failing)
    assert run("get", "t") == (7, "", "error: broken\n")


def test_main_exits_with_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["kuueri", "nope"])
    with pytest.raises(SystemExit) as exit_info:
        main()
    assert exit_info.value.code == 2


def test_a_reader_that_went_away_is_no_fault_to_tell_of() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        command = [sys.executable, "-m", "kuueri_grpc.cli", "subscribe", "--help"]
        done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (1, "")
