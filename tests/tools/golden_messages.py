"""Write tests/unit/cluster/protocol/golden.txt.gz: what Apache Kafka's own classes encode, message by message.

A maintainer's tool, run after extract_messages.py; needs a JDK:

    python tests/tools/golden_messages.py OLD_LIBS NEW_LIBS

Every message of every version is filled by the rule of tests/unit/cluster/protocol/filled.py, said to Kafka as JSON,
and encoded by each release that knows the version; the releases must agree. Lines: NAME VERSION bare|full HEX.
"""

from __future__ import annotations

import base64
import gzip
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from cluster.protocol import messages  # noqa: E402
from cluster.protocol.message import Struct  # noqa: E402
from tests.tools import extract_messages as extract  # noqa: E402
from tests.tools.extract_messages import JARS, RENAMED_FIELDS, Json  # noqa: E402
from tests.unit.cluster.protocol import filled  # noqa: E402

GOLDEN = ROOT / "tests" / "unit" / "cluster" / "protocol" / "golden.txt.gz"


def json_name(name: str) -> str:
    return name[0].lower() + name[1:]


def to_json(message: Json, fields: list[Json], value: Struct, version: int) -> Json:
    """The struct in the form that Kafka's JSON converters read: only what the version has."""
    shared = {struct["name"]: struct["fields"] for struct in message["commonStructs"]}
    said: Json = {}
    for field, known in zip(value._fields, fields, strict=True):
        if version not in field.versions:
            continue
        inner = known.get("fields") or shared.get(field.type, [])
        item = getattr(value, field.name)
        if field.is_array and item is not None:
            said[json_name(known["name"])] = [one_to_json(message, inner, field.type, one, version) for one in item]
        else:
            said[json_name(known["name"])] = one_to_json(message, inner, field.type, item, version)
    return said


def one_to_json(message: Json, inner: list[Json], kind: str, value: object, version: int) -> object:
    if isinstance(value, Struct):
        return to_json(message, inner, value, version)
    if isinstance(value, bytes):
        return (
            base64.urlsafe_b64encode(value).decode().rstrip("=") if kind == "uuid" else base64.b64encode(value).decode()
        )
    return value


def kafka_version(source: Json, version: int) -> int | None:
    """The number a release gives a version, if it knows it: the newer counts record types apart from versions."""
    if version not in extract.span(source["validVersions"]):
        return None
    return 0 if source["type"] == "coordinator-key" else version


def same_fields(source: Json, union: Json, version: int) -> bool:
    """Whether a release can say all that the union says: later releases add tagged fields to versions of old."""
    if source["name"] in RENAMED_FIELDS and source["validVersions"] != union["validVersions"]:
        return False
    tags, union_tags = (extract.wire(said, said["fields"], version)[1] for said in (source, union))
    return bool(tags.keys() == union_tags.keys())


def run_kafka(libs: str, lines: list[str], folder: str) -> dict[str, str]:
    jars = [str(jar) for part in (*JARS, "jackson-") for jar in pathlib.Path(libs).glob(f"{part}*.jar")]
    jars += [str(jar) for jar in pathlib.Path(libs).glob("slf4j-api-*.jar")]
    path = ":".join([folder, *jars])
    source = ROOT / "tests" / "tools" / "EncodeMessages.java"
    subprocess.run(["javac", "-proc:none", "-cp", path, "-d", folder, str(source)], check=True)
    command = ["java", "-Xmx256m", "-cp", path, "EncodeMessages"]
    output = subprocess.run(command, input="\n".join(lines), stdout=subprocess.PIPE, text=True, check=True).stdout
    found = {}
    for line in output.splitlines():
        name, label, encoded = line.split(" ")
        found[f"{name} {label}"] = encoded
    return found


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} OLD_LIBS NEW_LIBS")
    releases = [extract.load_release(libs) for libs in sys.argv[1:]]
    trimmed = dict(releases[0])
    extract.drop_early_access(trimmed)
    golden: dict[str, str] = {}
    for libs, release in zip(sys.argv[1:], [trimmed, releases[1]], strict=True):
        lines = []
        for name in messages.names():
            union = extract.merge(trimmed.get(name), releases[1].get(name))
            made = messages.message_class(name)
            for version in range(made.valid_versions[0], made.valid_versions[1] + 1):
                number = kafka_version(release[name], version) if name in release else None
                if number is None or not same_fields(release[name], union, version):
                    continue
                for kind, fill in (("bare", filled.bare), ("full", filled.full)):
                    said = json.dumps(to_json(union, union["fields"], fill(made, version), version))
                    lines.append(f"{name} {version}:{kind} {number} {said}")
        with tempfile.TemporaryDirectory() as folder:
            for key, encoded in run_kafka(libs, lines, folder).items():
                assert golden.setdefault(key, encoded) == encoded, key
    text = "".join(f"{key.replace(':', ' ')} {encoded}\n" for key, encoded in sorted(golden.items()))
    GOLDEN.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f"{len(golden)} of {2 * sum(len(messages.message_class(name)._table.valid) for name in messages.names())}")


if __name__ == "__main__":
    main()
