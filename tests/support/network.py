"""A network of the test's own: a few machines (network namespaces) around a router, between which paths can be cut.

    with Network(["zookeeper", "1", "2", "3"]) as network:
        network.address("1"); ServerProcess([*network.prefix("1"), "pylog", ...])
        network.cut("1", "2")        # what 1 sends to 2 gets lost; the other way all arrives
        network.heal()

What stays true: a cut path loses packets and says nothing, as a broken switch does; connections of this process, which
is a machine beside the others, are never cut. When the block ends nothing of it is left on this machine, and what a
killed run has left goes with the next one.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Self

_PREFIX = "pylog-test-"
_RULE_PRIORITY = 100
_RUN_S = 30


class NoNetwork(RuntimeError):
    """No such thing can be made here; the text says why."""


class Network:
    """`machines`: their names. Made by `with`."""

    def __init__(self, machines: Sequence[str]) -> None:
        self._number = {name: number for number, name in enumerate(machines, 1)}
        self._subnet = f"198.18.{os.getpid() % 256}"  # kept for tests of networks by RFC 2544
        self._router = f"{_PREFIX}{os.getpid()}-router"
        self._link = f"plt{os.getpid()}"
        self._cuts: set[tuple[str, str]] = set()

    def __enter__(self) -> Self:
        try:
            _remove_leftovers()
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._number:
            _delete(self._space(name))
        with contextlib.suppress(NoNetwork):  # it was not made
            _ip(["link", "delete", self._link])
        _delete(self._router)

    def address(self, machine: str) -> str:
        return f"{self._subnet}.{4 * self._number[machine] + 2}"

    def prefix(self, machine: str) -> list[str]:
        """What runs a command on this machine; the process is the command's own."""
        return ["ip", "netns", "exec", self._space(machine)]

    def cut(self, sender: str, receiver: str) -> None:
        """Lose whatever is sent this way."""
        if (sender, receiver) not in self._cuts:
            self._cuts.add((sender, receiver))
            self._rule("add", sender, receiver)

    def isolate(self, machines: Iterable[str], others: Iterable[str]) -> None:
        """Lose what is sent either way between these and those."""
        for one, other in product(machines, others):
            self.cut(one, other)
            self.cut(other, one)

    def heal(self) -> None:
        """Lose nothing any more."""
        for sender, receiver in list(self._cuts):
            self._rule("del", sender, receiver)
            self._cuts.discard((sender, receiver))

    # ------------------------------------------------------------------------------------------------- inside

    def _space(self, machine: str) -> str:
        return f"{_PREFIX}{os.getpid()}-{machine}"

    def _rule(self, action: str, sender: str, receiver: str) -> None:
        path = ["from", self.address(sender), "to", self.address(receiver)]
        _ip(["-n", self._router, "rule", action, *path, "blackhole", "pref", str(_RULE_PRIORITY)])

    def _make(self) -> None:
        """A /30 between the router and each machine, and one between the router and us."""
        _ip(["netns", "add", self._router])
        _ip(["netns", "exec", self._router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
        for machine, number in self._number.items():
            space = self._space(machine)
            _ip(["netns", "add", space])
            _ip(["-n", self._router, "link", "add", f"m{number}", "type", "veth", "peer", "eth0", "netns", space])
            self._connect(["-n", space], "eth0", f"m{number}", number)
            _ip(["-n", space, "link", "set", "lo", "up"])
            _ip(["-n", space, "route", "add", "default", "via", f"{self._subnet}.{4 * number + 1}"])
        _ip(["link", "add", self._link, "type", "veth", "peer", "host", "netns", self._router])
        self._connect([], self._link, "host", 0)
        _ip(["route", "add", f"{self._subnet}.0/24", "via", f"{self._subnet}.1"])

    def _connect(self, where: list[str], own: str, router: str, number: int) -> None:
        """Both ends of a link get their addresses."""
        _ip([*where, "address", "add", f"{self._subnet}.{4 * number + 2}/30", "dev", own])
        _ip([*where, "link", "set", own, "up"])
        _ip(["-n", self._router, "address", "add", f"{self._subnet}.{4 * number + 1}/30", "dev", router])
        _ip(["-n", self._router, "link", "set", router, "up"])


def unavailable() -> str | None:
    """Why there can be no such network here, or None."""
    if shutil.which("ip") is None:
        return "`ip` is not installed (Debian: apt install iproute2)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        with Network(["a", "b"]) as network:
            network.cut("a", "b")
    except NoNetwork as error:
        return f"no network namespaces: {error}"
    return None


def _ip(words: Sequence[str]) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=_RUN_S, check=False)
    if done.returncode != 0:
        raise NoNetwork(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def _delete(space: str) -> None:
    with contextlib.suppress(NoNetwork):  # it was not made
        _ip(["netns", "delete", space])


def _remove_leftovers() -> None:
    """Of processes that are gone."""
    for line in _ip(["netns", "list"]).splitlines():
        space = line.split()[0] if line.strip() else ""
        owner = space.removeprefix(_PREFIX).partition("-")[0]
        if space.startswith(_PREFIX) and owner.isdecimal() and not os.path.exists(f"/proc/{owner}"):
            _delete(space)
