"""Transcripts: scripts of events, each followed by what the state machine had to say to it, line by line.

A file is a row of blocks: a line with a command, `----`, what came of it, an empty line. Lines that begin with `#` tell
the story. The folder names who speaks the commands.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from tests.transcripts.consumer_group_script import ConsumerGroupScript
from tests.transcripts.controller_script import ControllerScript
from tests.transcripts.group_script import GroupScript
from tests.transcripts.replication_script import ReplicationScript
from tests.transcripts.transaction_script import TransactionScript


class Script(Protocol):
    def say(self, command: str) -> list[str]:
        """What comes of a command."""


HERE = Path(__file__).parent
SCRIPTS: dict[str, Callable[[], Script]] = {
    "consumer_group": ConsumerGroupScript,
    "controller": ControllerScript,
    "group": GroupScript,
    "replication": ReplicationScript,
    "transaction": TransactionScript,
}
FILES = sorted(HERE.glob("*/*.txt"))


def play(text: str, say: Callable[[str], list[str]]) -> str:
    """The same script with what is said now."""
    out: list[str] = []
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        told = [line for line in lines if line.startswith("#")]
        commands = [line for line in lines[len(told) :] if line]
        out += told
        if commands:
            out += [commands[0], "----", *say(commands[0])]
        out.append("")
    return "\n".join(out)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_transcript(path: Path, request: pytest.FixtureRequest) -> None:
    text = path.read_text("utf-8")
    now = play(text, SCRIPTS[path.parent.name]().say)
    if request.config.getoption("--rewrite", default=False):
        path.write_text(now, "utf-8")
    else:
        assert now == text


def test_there_are_transcripts() -> None:
    assert {path.parent.name for path in FILES} == set(SCRIPTS)
