"""`pylog server` starts fast because little is imported on its way."""

import json
import subprocess
import sys

from tests.tidy.sources import ROOT

# Each costs milliseconds or megabytes that every start would pay.
BANNED = {
    "argparse", "asyncio", "concurrent.futures", "dataclasses", "datetime", "difflib", "email", "http", "inspect",
    "importlib.metadata", "importlib.resources", "javaproperties", "kazoo", "logging", "numpy", "pathlib", "pickle",
    "prometheus_client", "random", "rich", "socket", "ssl", "subprocess", "tempfile", "unittest", "urllib", "uuid",
    "xxhash",
}  # fmt: skip

_PROBE = """
import json, sqlite3, sys  # sqlite3 is allowed, and brings datetime
before = set(sys.modules)
import cluster.cli.main, cluster.cli.server, cluster.config, cluster.broker.broker
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def imported_at_start() -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    modules: list[str] = json.loads(done.stdout)
    return modules


def test_nothing_heavy_is_imported_on_the_way_to_a_broker() -> None:
    found = [
        module
        for module in imported_at_start()
        if any(module == name or module.startswith(name + ".") for name in BANNED)
    ]
    assert not found, f"python -X importtime -c 'import cluster.broker.broker' shows who imports {found}"
