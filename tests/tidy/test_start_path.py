"""`pylog server` starts fast because little is imported on its way."""

import subprocess
import sys

from tests.tidy.sources import ROOT

# Each costs milliseconds or megabytes that every start would pay.
BANNED = {
    "argparse", "asyncio", "concurrent.futures", "dataclasses", "datetime", "difflib", "email", "enum", "http",
    "importlib.metadata", "importlib.resources", "inspect", "javaproperties", "json", "kazoo", "logging", "numpy",
    "pathlib", "pickle", "prometheus_client", "random", "re", "rich", "signal", "socket", "sqlite3", "ssl",
    "subprocess", "tempfile", "typing", "unittest", "urllib", "uuid", "xxhash",
}  # fmt: skip

_PROBE = """
import sys
before = set(sys.modules)  # what `site` runs for other packages is not ours
import cluster.cli.main, cluster.cli.server, cluster.config, cluster.broker.broker
print(" ".join(set(sys.modules) - before))
"""


def imported_at_start() -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return sorted(done.stdout.split())


def test_nothing_heavy_is_imported_on_the_way_to_a_broker() -> None:
    found = [
        module
        for module in imported_at_start()
        if any(module == name or module.startswith(name + ".") for name in BANNED)
    ]
    assert not found, f"python -X importtime -c 'import cluster.broker.broker' shows who imports {found}"
