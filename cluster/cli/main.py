"""The entry point: the first word chooses the file that does the work.

What it keeps true: on the way of `pylog server` nothing is imported but that file; whatever happens, the user sees
one line and not a traceback, except for a defect of ours.
"""

from __future__ import annotations

import os
import sys

_COMMANDS = {
    "server": "start a broker",
    "topics": "list, create, describe, alter and delete topics",
    "produce": "write lines as records",
    "consume": "read records",
    "groups": "list, describe, reset and delete consumer groups",
    "configs": "describe and alter the settings of topics, brokers and groups",
    "cluster": "start, show and stop a cluster on this machine",
    "metadata": "look into the metadata tree and move it: ls, get, export, import",
    "log": "look into data directories: ls, dump, verify, recover, tail, stats, export",
}

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    word = arguments[0] if arguments else "help"
    try:
        if word == "server":
            from cluster.cli.server import run_server

            return run_server(arguments[1:])
        if word in _COMMANDS:
            from cluster.cli.commands import run_command

            return run_command(word, arguments[1:])
        return _answer_itself(word, arguments[1:])
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return EXIT_BROKEN_PIPE


def _answer_itself(word: str, rest: list[str]) -> int:
    if word in ("help", "-h", "--help"):
        if rest and rest[0] in _COMMANDS:
            return main([rest[0], "--help"])
        sys.stdout.write(_help())
        sys.stdout.flush()
        return 0
    if word in ("--version", "-V", "version"):
        from importlib.metadata import version

        print(f"pylog {version('pylog')}", flush=True)
        return 0
    from difflib import get_close_matches

    near = get_close_matches(word, _COMMANDS, 1, 0.5)
    hint = f"did you mean {near[0]!r}?" if near else "`pylog help` lists them"
    print(f"pylog: there is no command {word!r}; {hint}", file=sys.stderr)
    return EXIT_USAGE


def _help() -> str:
    lines = ["usage: pylog COMMAND [arguments]", ""]
    lines += [f"  {word:<9} {text}" for word, text in _COMMANDS.items()]
    lines += ["", "`pylog COMMAND --help` tells more. `log` reads the data directory of any Kafka-compatible broker,"]
    lines += [
        "`metadata` ZooKeeper or a data directory; `server` and `cluster` run brokers; the others work against them."
    ]
    return "\n".join(lines) + "\n"


def _forget_stdout() -> None:
    """Nobody reads our output any more: what is still buffered goes nowhere instead of failing again at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
