"""Free TCP ports on loopback, below those that the kernel gives to outgoing connections (32768 and up, by default).

What stays true: a process gives out no port twice, and processes that run tests side by side begin far apart, so that a
port found free is still free when the server it is for binds it.
"""

import itertools
import os
import socket

_FIRST, _COUNT = 10_000, 15_000
_STRIDE = 1_009  # prime to _COUNT: neighbouring process ids lead to ports far from one another

_numbers = itertools.count()


def free_port() -> int:
    """A port nobody listens on now. Another process may take it before its user binds; the user then fails to start."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """`count` different ports."""
    found: list[int] = []
    while len(found) < count:
        port = _FIRST + (os.getpid() * _STRIDE + next(_numbers)) % _COUNT
        if _is_free(port):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a connection that has just ended takes no port
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
