"""`pylog configs`: describe and alter the settings of a topic, a broker or a group."""

from __future__ import annotations

import argparse
import sys

from cluster.cli.arguments import add_connection, connect, key_value
from cluster.cli.errors import UsageError
from cluster.cli.output import print_line, print_table
from cluster.cli.settings import BROKER, GROUP, SOURCES, TOPIC, alter, describe

_KINDS = {"topic": TOPIC, "broker": BROKER, "group": GROUP}
_DEFAULT_SOURCES = (0, 4, 5)


def build_parser() -> argparse.ArgumentParser:
    """The options of all its verbs."""
    parser = argparse.ArgumentParser(prog="pylog configs", description="Settings of topics, brokers and groups.")
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    verb = verbs.add_parser("describe", help="show settings")
    _add_resource(verb)
    verb.add_argument("--all", action="store_true", help="also what nobody set")
    verb.set_defaults(run=_describe)
    add_connection(verb)

    verb = verbs.add_parser("alter", help="change settings")
    _add_resource(verb)
    verb.add_argument("-c", "--config", type=key_value, action="append", default=[], metavar="KEY=VALUE")
    verb.add_argument("-d", "--delete-config", action="append", default=[], metavar="KEY", help="back to the default")
    verb.set_defaults(run=_alter)
    add_connection(verb)
    return parser


def _add_resource(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=sorted(_KINDS))
    parser.add_argument("name", help="the topic or group; the broker's id, or `all` for the default of all brokers")


def _name(options: argparse.Namespace) -> str:
    name: str = options.name
    if options.kind != "broker":
        return name
    if name == "all":
        return ""
    if not name.isdecimal():
        raise UsageError(f"a broker is named by its id, or `all`, not {name!r}")
    return name


def _describe(options: argparse.Namespace) -> int:
    name = _name(options)
    with connect(options) as cluster:
        settings = describe(cluster, _KINDS[options.kind], [name])[name]
    rows = [
        (setting.name, "(hidden)" if setting.is_sensitive else setting.value, SOURCES.get(setting.config_source))
        for setting in settings
        if options.all or setting.config_source not in _DEFAULT_SOURCES
    ]
    if not rows and sys.stdout.isatty():
        print_line(f"nothing is set for {options.kind} {options.name}; --all shows the defaults that hold")
        return 0
    print_table(("KEY", "VALUE", "SET FOR"), rows)
    return 0


def _alter(options: argparse.Namespace) -> int:
    if not (options.config or options.delete_config):
        raise UsageError("nothing to alter: give --config or --delete-config")
    with connect(options) as cluster:
        alter(cluster, _KINDS[options.kind], _name(options), dict(options.config), options.delete_config)
    print_line(f"changed the settings of {options.kind} {options.name}")
    return 0
