"""The trees that Kafka 3.9.1 left in ZooKeeper, step by step (tests/golden/zookeeper)."""

import json
import tarfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

ARCHIVE = Path(__file__).parents[3] / "golden" / "zookeeper" / "snapshots.tar.gz"


class Znode(NamedTuple):
    path: str
    data: bytes | None
    is_ephemeral: bool
    version: int
    cversion: int
    children: int


@cache
def snapshots() -> dict[str, list[Znode]]:
    """Znodes by the name of the step: "00-empty", …"""
    found = {}
    with tarfile.open(ARCHIVE) as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                found[Path(member.name).stem] = [_znode(json.loads(line)) for line in file]
    return dict(sorted(found.items()))


def _znode(line: dict[str, str]) -> Znode:
    data = line["data"]
    return Znode(
        line["path"],
        None if data is None else data.encode(),
        line["eph"] != "0x0",
        int(line["ver"]),
        int(line["cver"]),
        int(line["nch"]),
    )
