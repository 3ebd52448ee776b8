"""`pylog metadata`: ls, get, export and import on the tree of a cluster (ZooKeeper) or of a single node (its file).

What it keeps true: only `import` writes; a running single node's tree is read from a copy and never kept from it (what
lives in its memory only, such as /controller, is not seen); what `export` wrote, `import` takes, from either kind of
tree into either.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from cluster.cli.arguments import positive_seconds
from cluster.cli.errors import CommandError, UsageError
from cluster.cli.output import notice, print_line

if TYPE_CHECKING:
    from cluster.metadata.store import Stat, Store

_DEFAULT_DIRECTORY = "pylog-data"
_SESSION_TIMEOUT_MS = 30_000
_DEFAULT_TIMEOUT_S = 15.0


def build_parser() -> argparse.ArgumentParser:
    """The options of all its verbs."""
    parser = argparse.ArgumentParser(
        prog="pylog metadata",
        description="Look into the metadata tree of a cluster or a single node, and move it from one to the other.",
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    verb = verbs.add_parser("ls", help="the children of a node")
    verb.add_argument("path", nargs="?", default="/", help="default: /")
    verb.add_argument("-r", "--recursive", action="store_true", help="the paths of all nodes below it")
    _add_tree(verb, _list)

    verb = verbs.add_parser("get", help="a node's data and what is known about it, as zkCli shows it")
    verb.add_argument("path")
    verb.add_argument("-d", "--data-only", action="store_true", help="only the data, as they are")
    _add_tree(verb, _get)

    verb = verbs.add_parser("export", help="the tree as lines of JSON")
    verb.add_argument("path", nargs="?", default="/", help="only this node and what is below it; default: /")
    verb.add_argument("-o", "--output", metavar="FILE", help="default: standard output")
    verb.add_argument("--ephemeral", action="store_true", help="also the nodes that belong to a broker's session")
    _add_tree(verb, _export)

    verb = verbs.add_parser(
        "import",
        help="make the nodes of an export",
        description="Make the nodes of an export. Broker ids keep their meaning: a single node's tree, put into "
        "ZooKeeper, makes that node the first broker of a cluster. Stop it first, start it with zookeeper.connect.",
    )
    verb.add_argument(
        "file", nargs="?", default="-", help="what `pylog metadata export` wrote; default: standard input"
    )
    verb.add_argument(
        "--force", action="store_true", help="also into a tree that is not empty; its nodes stay, or change"
    )
    _add_tree(verb, _import)
    return parser


def _add_tree(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> None:
    """Which tree."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("-z", "--zookeeper", metavar="HOST:PORT[,...][/CHROOT]", help="a cluster's zookeeper.connect")
    which.add_argument(
        "-D",
        "--data-dir",
        metavar="DIR",
        help=f"a single node's data directory, running or not (default: {_DEFAULT_DIRECTORY})",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=positive_seconds,
        default=_DEFAULT_TIMEOUT_S,
        help="how long to wait for ZooKeeper (default: %(default)g)",
    )
    parser.set_defaults(run=_guarded(run))


def _guarded(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """What the tree does not let us do is one line, not a traceback."""

    def guarded(options: argparse.Namespace) -> int:
        from cluster.metadata.store import ConnectionLoss, NodeTooLarge, NoNode, SessionExpired, StoreError

        try:
            return run(options)
        except NoNode as error:
            raise CommandError(f"{_tree_name(options)} has no node {error.path}") from error
        except NodeTooLarge as error:
            raise CommandError(f"{error.path} has more data than a node may have") from error
        except ConnectionLoss as error:
            why = str(error) if type(error) is not ConnectionLoss else f"no answer within {options.timeout:g} s"
            raise CommandError(why) from error
        except SessionExpired as error:
            raise CommandError(f"{_tree_name(options)}: the session ended; try again") from error
        except StoreError as error:
            raise CommandError(f"{_tree_name(options)}: {error}") from error
        except BrokenPipeError:
            raise
        except OSError as error:
            what = (error.strerror or str(error)).lower()
            raise CommandError(f"{error.filename}: {what}" if error.filename else what) from error

    return guarded


# ------------------------------------------------------------------------------------------------ which tree


def _tree_name(options: argparse.Namespace) -> str:
    return str(options.zookeeper or options.data_dir or _DEFAULT_DIRECTORY)


@contextlib.contextmanager
def _opened(options: argparse.Namespace, *, writing: bool = False) -> Iterator[Store]:
    if options.zookeeper:
        with _opened_ensemble(options, make_chroot=writing) as store:
            yield store
        return
    path = _file(options.data_dir or _DEFAULT_DIRECTORY)
    if writing:
        with _opened_file(path) as store:
            yield store
        return
    if not os.path.exists(path):
        more = "" if options.data_dir else "; name a tree with --zookeeper or --data-dir"
        raise CommandError(f"there is no metadata tree at {path}{more}")
    from cluster.metadata.local_copy import opened_copy

    with opened_copy(path) as store:
        yield store


@contextlib.contextmanager
def _opened_ensemble(options: argparse.Namespace, *, make_chroot: bool) -> Iterator[Store]:
    from cluster.metadata.zookeeper import ZooKeeperStore

    patience_ms = int(options.timeout * 1000)
    try:
        store = ZooKeeperStore(
            options.zookeeper,
            session_timeout_ms=_SESSION_TIMEOUT_MS,
            connection_timeout_ms=patience_ms,
            patience_ms=patience_ms,
            make_chroot=make_chroot,
        )
    except ValueError as error:
        raise UsageError(f"--zookeeper {options.zookeeper}: {error}") from error
    try:
        yield store
    finally:
        store.close()


@contextlib.contextmanager
def _opened_file(path: str) -> Iterator[Store]:
    from cluster.metadata.local import LocalStore, StoreInUse

    if not os.path.isdir(os.path.dirname(path) or "."):
        raise CommandError(f"there is no directory {os.path.dirname(path)}")
    try:
        store = LocalStore(path, lambda: time.time_ns() // 1_000_000)
    except StoreInUse as error:
        raise CommandError(f"{path} is in use; stop its broker first") from error
    try:
        yield store
    finally:
        store.close()


def _file(named: str) -> str:
    """A data directory's tree; the file itself may be named too."""
    from cluster.metadata.local import FILE_NAME

    return named if os.path.isfile(named) else os.path.join(named, FILE_NAME)


def _checked(path: str) -> str:
    from cluster.metadata.store import check_path

    path = path if path == "/" else path.rstrip("/")
    try:
        check_path(path)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return path


# ------------------------------------------------------------------------------------------------ the verbs


def _list(options: argparse.Namespace) -> int:
    from cluster.metadata.reader import walk

    path = _checked(options.path)
    with _opened(options) as store:
        names = store.children(path)
        if options.recursive:
            names = sorted(node.path for node in walk(store, path))
    for name in names:
        print_line(name)
    return 0


def _get(options: argparse.Namespace) -> int:
    with _opened(options) as store:
        data, stat = store.get(_checked(options.path))
    if not options.data_only or data is not None:
        sys.stdout.flush()
        sys.stdout.buffer.write(b"null" if data is None else data)
    if not options.data_only:
        sys.stdout.buffer.write(f"\n{_stat_lines(stat)}".encode())
    sys.stdout.buffer.flush()
    return 0


def _stat_lines(stat: Stat) -> str:
    """In zkCli's words and order."""
    facts = {
        "cZxid": f"0x{stat.czxid:x}",
        "ctime": _date(stat.ctime),
        "mZxid": f"0x{stat.mzxid:x}",
        "mtime": _date(stat.mtime),
        "pZxid": f"0x{stat.pzxid:x}",
        "cversion": stat.cversion,
        "dataVersion": stat.version,
        "aclVersion": stat.aversion,
        "ephemeralOwner": f"0x{stat.ephemeral_owner & (1 << 64) - 1:x}",
        "dataLength": stat.data_length,
        "numChildren": stat.num_children,
    }
    return "".join(f"{name} = {value}\n" for name, value in facts.items())


def _date(time_ms: int) -> str:
    return time.strftime("%a %b %d %H:%M:%S %Z %Y", time.localtime(time_ms / 1000))


def _export(options: argparse.Namespace) -> int:
    from cluster.metadata.reader import walk
    from cluster.metadata.store import NoNode
    from cluster.metadata.tree_lines import ENSEMBLES_OWN, encode_line

    path = _checked(options.path)
    count = 0
    with _opened(options) as store, _output(options.output) as out:
        if store.exists(path) is None:
            raise NoNode(path)
        for node in sorted(walk(store, path)):
            if node.path == "/" or f"{node.path}/".startswith(ENSEMBLES_OWN + "/"):
                continue
            if node.stat.ephemeral_owner and not options.ephemeral:
                continue
            out.write(encode_line(node).encode() + b"\n")
            count += 1
    if options.output:
        notice(f"wrote {count:,} nodes to {options.output}")
    return 0


@contextlib.contextmanager
def _output(path: str | None) -> Iterator[BinaryIO]:
    """The file, which has its name only once it is whole."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    aside = f"{path}.tmp"
    try:
        with open(aside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        raise


def _import(options: argparse.Namespace) -> int:
    from cluster.metadata import paths
    from cluster.metadata.tree_lines import ENSEMBLES_OWN, decode_lines, restore

    try:
        if options.file == "-":
            lines = list(decode_lines(sys.stdin.buffer))
        else:
            with open(options.file, "rb") as file:
                lines = list(decode_lines(file))
    except ValueError as error:
        raise CommandError(f"{options.file}: {error}") from error
    if not lines:
        raise CommandError(f"{options.file} has no nodes")
    name = _tree_name(options)
    with _opened(options, writing=True) as store:
        there = [each for each in store.children("/") if f"/{each}" != ENSEMBLES_OWN]
        alive = store.children(paths.BROKER_IDS) if store.exists(paths.BROKER_IDS) is not None else []
        if alive:
            which = f"broker {alive[0]} runs" if len(alive) == 1 else f"brokers {', '.join(alive)} run"
            raise CommandError(f"{which} on {name}; nothing is written under a running cluster")
        if there and not options.force:
            raise CommandError(f"{name} is not empty (it has {', '.join(there)}); --force writes into it all the same")
        done = restore(store, lines)
    changed = f", changed {done.changed:,}" if done.changed else ""
    left_out = f", left out {done.left_out:,} that belonged to sessions" if done.left_out else ""
    notice(f"created {done.created:,} nodes in {name}{changed}{left_out}")
    return 0
