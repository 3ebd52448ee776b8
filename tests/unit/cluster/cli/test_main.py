"""The command itself: dispatch, exit codes, the arguments of the server, and what its start imports."""

import subprocess
import sys
from pathlib import Path

import pytest

from cluster.cli import main as entry
from cluster.cli.client import ClusterClient, parse_addresses
from cluster.cli.errors import CommandError
from cluster.cli.main import EXIT_BROKEN_PIPE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, main
from cluster.cli.server import parse_arguments
from pylog.errors import ErrorCode, KafkaError
from tests.support.ports import free_port


@pytest.mark.parametrize(
    "arguments", [[], ["help"], ["--help"], ["help", "topics"], ["server", "--help"], ["topics", "-h"]]
)
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert "usage: pylog" in capsys.readouterr().out


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topcis"]) == EXIT_USAGE
    assert capsys.readouterr().err == "pylog: there is no command 'topcis'; did you mean 'topics'?\n"
    assert main(["xyzzy"]) == EXIT_USAGE
    assert capsys.readouterr().err == "pylog: there is no command 'xyzzy'; `pylog help` lists them\n"


@pytest.mark.parametrize("word", ["topics", "groups", "configs", "cluster", "metadata", "log"])
def test_a_missing_verb_is_answered_with_those_there_are(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == EXIT_USAGE
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"usage: pylog {word}") and "\n    " in err.partition("positional")[2]


def test_an_empty_separator_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["produce", "t", "-K", ""]) == EXIT_USAGE
    assert "-K/--key-separator: it must not be empty" in capsys.readouterr().err


def test_no_broker_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    assert main(["topics", "list", "-b", f"127.0.0.1:{port}"]) == EXIT_FAILED
    assert capsys.readouterr() == (
        "",
        f"pylog: no broker answers at 127.0.0.1:{port}: connection refused; is it running? `pylog server` starts one\n",
    )


def test_usage_errors_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topics", "frobnicate"]) == EXIT_USAGE
    assert main(["topics", "list", "-b", "host:port"]) == EXIT_USAGE
    assert main(["produce", "t", "-f", "/no/such/file"]) == EXIT_USAGE
    assert "pylog: /no/such/file: no such file or directory\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "code"), [(KeyboardInterrupt(), EXIT_INTERRUPTED), (BrokenPipeError(), EXIT_BROKEN_PIPE)]
)
def test_interrupts_and_broken_pipes_say_nothing(
    raised: BaseException, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(word: str, arguments: list[str]) -> int:
        raise raised

    monkeypatch.setattr("cluster.cli.commands.run_command", fail)
    monkeypatch.setattr(entry, "_forget_stdout", lambda: None)  # it would close what pytest reads
    assert main(["topics", "list"]) == code
    assert capsys.readouterr() == ("", "")


def test_a_closed_pipe_ends_quietly() -> None:
    command = [sys.executable, "-m", "cluster.cli.main", "help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=_root()) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(10) == EXIT_BROKEN_PIPE


def _root() -> Path:
    return Path(entry.__file__).parents[2]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], (None, {})),
        (["a.properties"], ("a.properties", {})),
        (["--override", "a=b=c", "f", "--override=d = e "], ("f", {"a": "b=c", "d": "e"})),
        (["--override", "a="], (None, {"a": ""})),
    ],
)
def test_server_arguments(words: list[str], expected: tuple[str | None, dict[str, str]]) -> None:
    assert parse_arguments(words) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--override"], "--override needs KEY=VALUE, not ''"),
        (["--override", "a"], "--override needs KEY=VALUE, not 'a'"),
        (["--overide=a=b"], "there is no option --overide=a=b"),
        (["a", "b"], "one properties file at most, not a and b"),
    ],
)
def test_server_arguments_that_are_none(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["server", *words]) == EXIT_USAGE
    assert capsys.readouterr().err.startswith(f"pylog server: {message}\n")


def test_a_settings_file_that_cannot_be_used_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "none.properties"
    assert main(["server", str(missing)]) == EXIT_USAGE
    assert capsys.readouterr().err == f"pylog server: {missing}: no such file or directory\n"
    bad = tmp_path / "bad.properties"
    bad.write_text("num.partitions=many\n")
    assert main(["server", str(bad)]) == EXIT_USAGE
    assert capsys.readouterr().err == (
        "pylog server: Invalid value many for configuration num.partitions: Not a number of type INT\n"
    )


def test_the_way_to_the_server_imports_little() -> None:
    """Beyond what an empty interpreter has, only our own two modules, and `gc`, which is built in."""
    script = (
        "import sys; before = set(sys.modules)\n"
        "from cluster.cli.main import main; main(['server', '--help'])\n"
        "print(sorted(set(sys.modules) - before), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=_root())
    expected = ["__future__", "cluster", "cluster.cli", "cluster.cli.main", "cluster.cli.server", "gc"]
    assert done.stderr.strip() == str(expected)


class Clock:
    """Counts the pauses instead of making them."""

    def __init__(self, client: ClusterClient, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("cluster.cli.client.time.monotonic", lambda: self.now)
        monkeypatch.setattr(client, "pause", self._pause)

    def _pause(self, seconds: float) -> None:
        self.now += seconds


def test_retrying_ends_with_the_last_error_and_says_why_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    client = ClusterClient(parse_addresses("localhost"), timeout_ms=10_000, on_wait=said.append)
    clock = Clock(client, monkeypatch)
    attempts = 0

    def attempt() -> None:
        nonlocal attempts
        attempts += 1
        raise KafkaError(ErrorCode.NOT_COORDINATOR, "Not here.")

    with pytest.raises(KafkaError, match="Not here"):
        client.retry(attempt)
    assert 9 <= clock.now <= 10
    assert 10 < attempts < 20
    assert said == ["waiting: NOT_COORDINATOR: Not here."]


@pytest.mark.parametrize("error", [KafkaError(ErrorCode.INVALID_CONFIG), CommandError("no")])
def test_what_no_waiting_cures_is_not_tried_again(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    client = ClusterClient(parse_addresses("localhost"), timeout_ms=10_000)
    clock = Clock(client, monkeypatch)

    def attempt() -> None:
        raise error

    with pytest.raises(type(error)):
        client.retry(attempt)
    assert clock.now == 0.0
