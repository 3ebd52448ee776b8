"""Rewrite cluster/protocol's tables, stub and API keys from the message schemas inside Kafka's jars.

A maintainer's tool, run when a new Kafka release is to be spoken; nothing of the product calls it:

    python tests/tools/extract_messages.py OLD_LIBS NEW_LIBS      (two directories of jars, 3.9 and 4.x)

What it keeps true:
- A table is the union of both releases: the newest fields, plus the versions and fields the newer release dropped.
- The union reads and writes the same bytes as each release does, for every version that release knows. This is checked
  here for every message, so a merge that would change a byte stops the run.
- Only facts go into the tables (name, type, versions, nullable, tag, default, ignorable); never prose.
"""

from __future__ import annotations

import json
import keyword
import pathlib
import re
import subprocess
import sys
import zipfile
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROTOCOL = ROOT / "cluster" / "protocol"
JARS = ("kafka-clients", "kafka-group-coordinator", "kafka-transaction-coordinator", "kafka-share-coordinator")
Json = dict[str, Any]

# Fields that the newer release renamed without changing a byte, by message.
RENAMED_FIELDS = {
    "VoteRequest": {
        "CandidateEpoch": "ReplicaEpoch",
        "CandidateId": "ReplicaId",
        "CandidateDirectoryId": "ReplicaDirectoryId",
    },
}
# Messages that live on under another name, with the same bytes: (old name, new name).
RENAMED_MESSAGES = {
    "ListClientMetricsResourcesRequest": "ListConfigResourcesRequest",
    "ListClientMetricsResourcesResponse": "ListConfigResourcesResponse",
    "LegacyOffsetCommitKey": "OffsetCommitKey",
    "LegacyOffsetCommitValue": "OffsetCommitValue",
}
# What our brokers say beside Kafka's fields, and only to who asks by such a field: whoever does not know these tags
# skips them. By struct. Tags below OUR_TAGS (cluster/protocol/tables.py) are Kafka's.
CAUSE_FIELDS = [
    {"name": "AtMs", "type": "int64", "versions": "5+"},
    {"name": "Kind", "type": "string", "versions": "5+"},
    {"name": "MemberId", "type": "string", "versions": "5+"},
    {"name": "ClientId", "type": "string", "versions": "5+"},
    {"name": "ClientHost", "type": "string", "versions": "5+"},
    {"name": "Reason", "type": "string", "versions": "5+"},
]
REBALANCE_FIELDS = [
    {"name": "BegunMs", "type": "int64", "versions": "5+"},
    {"name": "JoiningMs", "type": "int32", "versions": "5+"},
    {"name": "TookMs", "type": "int32", "versions": "5+"},
    {"name": "Outcome", "type": "string", "versions": "5+"},
    {"name": "Generation", "type": "int32", "versions": "5+"},
    {"name": "Members", "type": "int32", "versions": "5+"},
    {"name": "Omitted", "type": "int32", "versions": "5+"},
    {"name": "Causes", "type": "[]RebalanceCause", "versions": "5+", "fields": CAUSE_FIELDS},
]
OUR_TAG = {"versions": "5+", "taggedVersions": "5+", "tag": 28780}
OUR_FIELDS: dict[str, Json] = {
    "DescribeGroupsRequest": {"name": "Rebalances", "type": "int32", "ignorable": True, **OUR_TAG},
    "DescribedGroup": {
        "name": "Rebalances",
        "type": "[]Rebalance",
        "nullableVersions": "5+",
        "default": "null",
        "ignorable": True,
        "fields": REBALANCE_FIELDS,
        **OUR_TAG,
    },
}
RESERVED = {"encode", "decode", "api_key", "valid_versions", "flexible_versions", "latest_version_unstable"}


def load_json(text: str) -> Json:
    """The schemas are JSON with // comments and trailing commas."""
    text = re.sub(r'("(?:\\.|[^"\\])*")|//[^\n]*', lambda match: match[1] or "", text)
    return dict(json.loads(re.sub(r",(\s*[}\]])", r"\1", text)))


def load_release(libs: str) -> dict[str, Json]:
    messages: dict[str, Json] = {}
    for jar in sorted(pathlib.Path(libs).glob("*.jar")):
        if not re.fullmatch(f"({'|'.join(JARS)})-[0-9.]+\\.jar", jar.name):
            continue
        with zipfile.ZipFile(jar) as archive:
            for name in archive.namelist():
                if name.startswith("common/message/") and name.endswith(".json"):
                    message = load_json(archive.read(name).decode())
                    messages[message["name"]] = normalise(message)
    if not messages:
        sys.exit(f"{libs}: no jar of {', '.join(JARS)} in it")
    return messages


def drop_early_access(old: dict[str, Json]) -> None:
    """Forget what the older release marked unstable (share groups): the newer changed those bytes under one number."""
    unstable = {message["apiKey"] for message in old.values() if message.get("latestVersionUnstable") is True}
    for name, message in list(old.items()):
        is_rpc = message["type"] in ("request", "response")
        is_record = name.startswith("ShareGroup") and name.endswith(("Key", "Value"))
        if is_record or (is_rpc and message["apiKey"] in unstable):
            del old[name]


def normalise(message: Json) -> Json:
    """Give every release's schema one shape: coordinator keys are versioned by their record type, as on disk."""
    message.setdefault("fields", [])
    message.setdefault("commonStructs", [])
    message.setdefault("flexibleVersions", "none")
    if message["type"] == "coordinator-key":
        record_type = str(message["apiKey"])
        message["validVersions"] = record_type
        for field in message["fields"]:
            field["versions"] = record_type
    rename_fields(message["fields"], RENAMED_FIELDS.get(message["name"], {}))
    return message


def rename_fields(fields: list[Json], new_names: dict[str, str]) -> None:
    for field in fields:
        field["name"] = new_names.get(field["name"], field["name"])
        rename_fields(field.get("fields", []), new_names)


def span(versions: str, top: int = 32767) -> range:
    if versions == "none":
        return range(0)
    if versions.endswith("+"):
        return range(int(versions[:-1]), top + 1)
    low, _, high = versions.partition("-")
    return range(int(low), int(high or low) + 1)


def snake(name: str) -> str:
    name = name.replace("KRaft", "Kraft")
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    return name + "_" if keyword.iskeyword(name) else name


# ---- the union of two releases ----


def merge_fields(old: list[Json], new: list[Json]) -> list[Json]:
    """The older order with the newer fields behind their predecessors; what both know is as the newer says."""
    merged = [dict(field) for field in old]
    place = 0
    for field in new:
        names = [known["name"] for known in merged]
        if field["name"] in names:
            place = names.index(field["name"])
            before = merged[place]
            after = dict(field)
            if "fields" in field:
                after["fields"] = merge_fields(before.get("fields", []), field["fields"])
            if before.get("ignorable") and "ignorable" not in field:
                after["ignorable"] = True
            merged[place] = after
            place += 1
        else:
            merged.insert(place, dict(field))
            place += 1
    return merged


def merge(old: Json | None, new: Json | None) -> Json:
    if old is None or new is None:
        only = old or new
        assert only is not None
        return only
    if new["validVersions"] == "none":
        return old
    low_high = [span(message["validVersions"]) for message in (old, new)]
    merged = dict(new)
    merged["validVersions"] = f"{min(r.start for r in low_high)}-{max(r.stop for r in low_high) - 1}"
    merged["fields"] = merge_fields(old["fields"], new["fields"])
    if new["type"] == "coordinator-key":  # the newer release names one record type a key, the older all of them
        merged["fields"] = old["fields"]
    structs = {struct["name"]: struct for struct in old["commonStructs"]}
    for struct in new["commonStructs"]:
        known = structs.get(struct["name"])
        structs[struct["name"]] = struct | {"fields": merge_fields(known["fields"] if known else [], struct["fields"])}
    merged["commonStructs"] = list(structs.values())
    return merged


def add_our_fields(messages: dict[str, Json]) -> None:
    messages["DescribeGroupsRequest"]["fields"].append(OUR_FIELDS["DescribeGroupsRequest"])
    (groups,) = (field for field in messages["DescribeGroupsResponse"]["fields"] if field["name"] == "Groups")
    groups["fields"].append(OUR_FIELDS["DescribedGroup"])


# ---- the check: what a version looks like on the wire ----


def wire(message: Json, fields: list[Json], version: int, path: str = "") -> tuple[list[tuple[object, ...]], Json]:
    """The untagged fields in order, and the tagged ones by (path, tag)."""
    structs = {struct["name"]: struct["fields"] for struct in message["commonStructs"]}
    plain: list[tuple[object, ...]] = []
    tagged: Json = {}
    for field in fields:
        if version not in span(field.get("versions") or field["taggedVersions"]):
            continue
        kind = field["type"]
        element = kind.removeprefix("[]")
        inner: object = element
        if element[0].isupper():
            inner, more = wire(message, field.get("fields") or structs[element], version, f"{path}.{field['name']}")
            tagged |= more
        nullable = version in span(field.get("nullableVersions", "none"))
        fact = (kind.startswith("[]"), inner, nullable, field.get("flexibleVersions"))
        if version in span(field.get("taggedVersions", "none")):
            tagged[f"{path}.{field['tag']}"] = fact
        else:
            plain.append(fact)
    return plain, tagged


def check_same_bytes(source: Json, union: Json) -> None:
    known = span(union["validVersions"])
    for version in span(source["validVersions"]):
        if version not in known:
            continue
        plain, tagged = wire(source, source["fields"], version)
        union_plain, union_tagged = wire(union, union["fields"], version)
        assert plain == union_plain, (source["name"], version, plain, union_plain)
        for tag, fact in tagged.items():
            assert fact == union_tagged[tag], (source["name"], version, tag)
        flexible = [version in span(message["flexibleVersions"]) for message in (source, union)]
        assert flexible[0] == flexible[1], (source["name"], version)


# ---- output ----


def default_of(field: Json) -> str | None:
    """The default as the table spells it, None when it is the type's own."""
    value = field.get("default")
    if value is None:  # a JSON null says nothing; only the string "null" makes null the default
        return None
    text = json.dumps(value) if isinstance(value, bool) else str(value)
    kind = field["type"]
    if kind in ("int8", "int16", "uint16", "int32", "int64"):
        number = int(text, 0)
        return str(number) if number else None
    if kind == "bool":
        return "true" if text == "true" else None
    assert text in ("null", "", "0"), field
    return "null" if text == "null" else None


def field_lines(fields: list[Json], depth: int) -> list[str]:
    lines = []
    for field in fields:
        name = snake(field["name"])
        assert depth > 1 or name not in RESERVED, name
        words = [" " * depth + name, field["type"], field.get("versions") or field["taggedVersions"]]
        if field.get("nullableVersions", "none") != "none":
            words.append(f"null={field['nullableVersions']}")
        if field.get("taggedVersions", "none") != "none":
            words.append(f"tag={int(field['tag'])}:{field['taggedVersions']}")
        if (default := default_of(field)) is not None:
            words.append(f"default={default}")
        if str(field.get("ignorable", "false")).lower() == "true":
            words.append("ignorable")
        if "flexibleVersions" in field:
            words.append(f"flexible={field['flexibleVersions']}")
        lines.append(" ".join(words))
        lines += field_lines(field.get("fields", []), depth + 1)
    return lines


def table(message: Json) -> str:
    valid = span(message["validVersions"])
    kind = message["type"].removeprefix("coordinator-")
    numbers = f"{message.get('apiKey', '-')} {valid.start}-{valid.stop - 1} {message['flexibleVersions']}"
    head = f"{message['name']} {kind} {numbers}"
    if message.get("latestVersionUnstable") is True:
        head += " unstable"
    lines = [head, *field_lines(message["fields"], 1)]
    for struct in inner_first(message["commonStructs"]):
        lines.append(f"+{struct['name']} {struct['versions']}")
        lines += field_lines(struct["fields"], 1)
    return "\n".join(lines) + "\n"


def inner_first(structs: list[Json]) -> list[Json]:
    """Shared structs may use one another; the table's reader wants the used one before its user."""
    left = list(structs)
    ordered: list[Json] = []
    while left:
        names = {struct["name"] for struct in left}
        ready = [struct for struct in left if not names & uses(struct["fields"])]
        assert ready, names
        ordered += ready
        left = [struct for struct in left if struct not in ready]
    return ordered


def uses(fields: list[Json]) -> set[str]:
    used = {field["type"].removeprefix("[]") for field in fields}
    return used.union(*(uses(field.get("fields", [])) for field in fields))


def write_tables(messages: dict[str, Json]) -> None:
    from cluster.protocol.tables import table_name

    folder = PROTOCOL / "tables"
    files: dict[str, str] = {}
    for name in sorted(messages):
        files[table_name(name)] = files.get(table_name(name), "") + table(messages[name])
    for stale in folder.glob("*.txt"):
        stale.unlink()
    for file_name, text in files.items():
        (folder / file_name).write_text(text)


def write_api_keys(messages: dict[str, Json]) -> None:
    requests = {message["apiKey"]: message for message in messages.values() if message["type"] == "request"}
    members, flexible = [], []
    for key, message in sorted(requests.items()):
        name = message["name"].removesuffix("Request")
        members.append(f"    {snake(name).upper()} = {key}")
        response = messages[f"{name}Response"]
        assert response["apiKey"] == key and response["flexibleVersions"] == message["flexibleVersions"], name
        if message["flexibleVersions"] != "none":
            flexible.append(f"    {key}: {span(message['flexibleVersions']).start},  # {name}")
    (PROTOCOL / "api_keys.py").write_text(
        '"""Every API key of Kafka 3.9 and 4.x. Written by tests/tools/extract_messages.py; change it there."""\n\n'
        "from pylog.facts import IntEnum\n\n\n"
        "class ApiKey(IntEnum):\n"
        '    """The first field of a request. A key is here whether or not a broker serves it (see served.py)."""\n\n'
        + "\n".join(members)
        + "\n\n\n# The first flexible version of each API, of request and response alike; absent: none is flexible.\n"
        "FLEXIBLE_SINCE: dict[int, int] = {\n" + "\n".join(flexible) + "\n}\n"
    )


PYTHON_TYPES = {
    "bool": "bool",
    "string": "str",
    "uuid": "bytes",
    "bytes": "bytes",
    "records": "bytes",
    "float64": "float",
}


def stub_type(message_name: str, field: Json) -> str:
    kind = field["type"]
    element = kind.removeprefix("[]")
    python = f"{message_name}.{element}" if element[0].isupper() else PYTHON_TYPES.get(element, "int")
    if kind.startswith("[]"):
        python = f"list[{python}]"
    nullable = field.get("nullableVersions", "none") != "none"
    return f"{python} | None" if nullable or kind == "records" or default_of(field) == "null" else python


def stub_body(message_name: str, fields: list[Json], indent: str) -> list[str]:
    facts = [(snake(field["name"]), stub_type(message_name, field)) for field in fields]
    lines = [f"{indent}{name}: {python}" for name, python in facts]
    if facts:
        lines.append(f"{indent}def __init__(")
        lines.append(f"{indent}    self,")
        lines.append(f"{indent}    *,")
        lines += [f"{indent}    {name}: {python} = ...," for name, python in facts]
        lines.append(f"{indent}) -> None: ...")
    else:
        lines.append(f"{indent}def __init__(self) -> None: ...")
    return lines


def nested_structs(fields: list[Json]) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for field in fields:
        if "fields" in field:
            found[field["type"].removeprefix("[]")] = field["fields"]
            found |= nested_structs(field["fields"])
    return found


def write_stub(messages: dict[str, Json]) -> None:
    lines = [
        '"""Types of the lazily built message classes. Written by tests/tools/extract_messages.py; change it there."""',
        "",
        "from cluster.protocol.message import Message, Struct",
        "",
        "def names() -> list[str]: ...",
        "def message_class(name: str) -> type[Message]: ...",
    ]
    for name in sorted(messages):
        message = messages[name]
        lines += ["", f"class {name}(Message):"]
        structs = nested_structs(message["fields"])
        for struct in message["commonStructs"]:
            structs |= {struct["name"]: struct["fields"]} | nested_structs(struct["fields"])
        for struct_name, fields in structs.items():
            lines.append(f"    class {struct_name}(Struct):")
            lines += stub_body(name, fields, " " * 8)
        lines += stub_body(name, message["fields"], " " * 4)
    (PROTOCOL / "messages.pyi").write_text("\n".join(lines) + "\n")


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} OLD_LIBS NEW_LIBS")
    sys.path.insert(0, str(ROOT))
    old, new = (load_release(libs) for libs in sys.argv[1:])
    drop_early_access(old)
    names = sorted((set(old) | set(new)) - set(RENAMED_MESSAGES))
    messages = {name: merge(old.get(name), new.get(name)) for name in names}
    for release in (old, new):
        for name, source in release.items():
            check_same_bytes(source, messages[RENAMED_MESSAGES.get(name, name)])
    add_our_fields(messages)
    write_tables(messages)
    write_api_keys(messages)
    write_stub(messages)
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", PROTOCOL / "messages.pyi"], check=True)
    print(f"{len(messages)} messages")


if __name__ == "__main__":
    main()
