"""Apache Kafka beside us: fetched once from Maven Central into ./.peers (or $PYLOG_PEERS), never part of the product.

`python -m tests.support.peers kafka39 kafka4` fetches. Java and Maven are not installed by anything here: where they
are not at hand, `unavailable` says so and the tests that need them skip with that reason.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
POMS = ROOT / "tests" / "clients" / "peers"
VERSIONS = {"kafka39": "3.9.1", "kafka4": "4.3.1"}
FETCH_TIMEOUT_S = 600


def home(name: str) -> Path:
    return Path(os.environ.get("PYLOG_PEERS", ROOT / ".peers")) / name


def unavailable(name: str) -> str | None:
    """Why this Kafka cannot be used here, or None after it was fetched."""
    if shutil.which("java") is None:
        return "Java is not installed"
    if _is_complete(name):
        return None
    if shutil.which("mvn") is None:
        return "Maven is not installed, and Apache Kafka was not fetched before"
    done = _fetch(name)
    if done.returncode != 0:
        return f"Maven could not fetch Apache Kafka {VERSIONS[name]}: {done.stdout.strip()[-300:]}"
    return None


def _is_complete(name: str) -> bool:
    """Whether what its POM asks for was fetched, and that POM has not changed since."""
    mark = home(name) / ".complete"
    return mark.exists() and mark.read_bytes() == _pom(name).read_bytes()


def _pom(name: str) -> Path:
    return POMS / f"{name}.xml"


def _fetch(name: str) -> subprocess.CompletedProcess[str]:
    """Copy the jars beside one another. `.complete` comes last, so a fetch that was cut is done again."""
    libs = home(name) / "libs"
    libs.mkdir(parents=True, exist_ok=True)
    command = ["mvn", "-q", "-B", "-f", str(_pom(name)), "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={libs}"]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=FETCH_TIMEOUT_S, check=False
    )
    if done.returncode == 0:
        (home(name) / ".complete").write_bytes(_pom(name).read_bytes())
    return done


def java(name: str, main_class: str, arguments: list[str], *, heap: str = "256M", server: bool = False) -> list[str]:
    """The command that runs a main class of this Kafka. Logging goes to stderr."""
    level = "INFO" if server else "WARN"
    options = [f"-Xmx{heap}", "-Djava.awt.headless=true", f"-Dpylog.log={level}"]
    if server:
        options += [
            f"-Xms{heap}",
            "-server",
            "-XX:+UseG1GC",
            "-XX:MaxGCPauseMillis=20",
            "-XX:+ExplicitGCInvokesConcurrent",
        ]
        options += ["-XX:InitiatingHeapOccupancyPercent=35"]
    else:
        options += ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
    if name == "kafka39":
        options.append(f"-Dlog4j.configuration=file:{POMS / 'log4j.properties'}")
    else:
        options.append(f"-Dlog4j2.configurationFile={POMS / 'log4j2.properties'}")
    return ["java", *options, "-cp", f"{home(name) / 'libs'}/*", main_class, *arguments]


def main() -> int:
    for name in sys.argv[1:] or VERSIONS:
        reason = unavailable(name)
        if reason is not None:
            print(f"{name}: {reason}", file=sys.stderr)
            return 1
        print(f"{name}: Apache Kafka {VERSIONS[name]} in {home(name)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
