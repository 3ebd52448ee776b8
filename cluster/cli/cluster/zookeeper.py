"""A ZooKeeper server on this machine, for trying out: where its jars are, its settings, whether it answers.

What stays true: one server, listening on loopback only; everything it writes is in the directory it is given.
"""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

MISSING = "ZooKeeper is not installed; on Debian and Ubuntu: apt install zookeeper (or set ZOOKEEPER_HOME)"
_DEBIAN_JARS = Path("/usr/share/java")
_MAIN_CLASS = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
_HEAP = "256m"
_ANSWER_S = 2.0


def find_class_path() -> str | None:
    """What to give to `java -cp`: a ZooKeeper of ZOOKEEPER_HOME, else Debian's. None: there is none."""
    if shutil.which("java") is None:
        return None
    home = os.environ.get("ZOOKEEPER_HOME")
    if home:
        return f"{home}/conf:{home}/lib/*" if list(Path(home, "lib").glob("zookeeper-*.jar")) else None
    jar = _DEBIAN_JARS / "zookeeper.jar"
    return f"{jar}:{_DEBIAN_JARS / 'slf4j-simple.jar'}" if jar.exists() else None


def write_settings(directory: Path, port: int, **more: str) -> Path:
    """zoo.cfg in `directory`, which holds the data as well."""
    (directory / "data").mkdir(parents=True, exist_ok=True)
    settings = {
        "dataDir": str((directory / "data").resolve()),
        "clientPort": str(port),
        "clientPortAddress": "127.0.0.1",
        "maxClientCnxns": "0",
        "tickTime": "2000",
        "admin.enableServer": "false",
        "autopurge.purgeInterval": "1",
        **more,
    }
    path = directory / "zoo.cfg"
    path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    return path


def command(class_path: str, settings: Path, *options: str) -> list[str]:
    """Runs the server in the foreground. `options`: of the Java machine."""
    java = ["java", f"-Xmx{_HEAP}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
    return [*java, *options, "-cp", class_path, _MAIN_CLASS, str(settings)]


def version(port: int) -> str | None:
    """The version of the server that serves on this port of loopback; None when none does (yet)."""
    try:
        with socket.create_connection(("127.0.0.1", port), _ANSWER_S) as asked:
            asked.sendall(b"srvr")
            with asked.makefile("rb") as answer:
                first = answer.readline().decode("utf-8", "replace")
    except OSError:
        return None
    marker = "Zookeeper version: "
    return first[len(marker) :].partition("-")[0].strip() if first.startswith(marker) else None
