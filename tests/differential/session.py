"""What a session is made of: requests as plain data, with placeholders for what only the broker knows.

A body is a tree of dicts, lists and scalars, named as in the message tables. A dict with the key "$" is a placeholder:

    {"$": "topic_id", "of": NAME}          the id that the broker gave a topic, or one that nobody has
    {"$": "member", "of": LABEL}           the member id, generation, producer id, fetch session, … that the answer to
    {"$": "generation", "of": LABEL}       the step saved under LABEL gave
    {"$": "producer", "of": LABEL}
    {"$": "epoch", "of": LABEL}
    {"$": "session", "of": LABEL}
    {"$": "member_epoch", "of": LABEL}
    {"$": "assigned", "of": LABEL, …}      what members say of what they were assigned, see members.py
    {"$": "batches", "list": [SPEC, …]}    record batches, see tests.broker.batches; SPEC may name a producer's label
    {"$": "hex", "of": TEXT}               bytes
    {"$": "text", "of": TEXT, "times": N}  a long one
    {"$": "now", "add": MS}                the wall clock

A number that an answer gave may have "add": N beside it.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Tree: TypeAlias = Any
Step: TypeAlias = dict[str, Any]
Session: TypeAlias = list[Step]


def ask(api: str, version: int, body: Tree, **more: Any) -> Step:
    """One request.

    more: save=LABEL (for placeholders), conn=N (which connection), wait=False (the answer is taken by a `receive`
    step), client=None or a name, tags=HEX and header_tags=HEX (tagged fields that nobody knows, in flexible versions),
    damage=[KIND, ARGUMENT] (see player.damaged), again=[CODE, ...] (ask until the answer has another one).
    """
    return {"api": api, "version": version, "body": body, **more}


def receive(conn: int) -> Step:
    """Take the answer to what was asked on a connection without waiting."""
    return {"receive": conn}


def placeholder(kind: str, of: str = "", **more: Any) -> dict[str, Any]:
    return {"$": kind, "of": of, **more} if of else {"$": kind, **more}


def batches(*specs: dict[str, Any]) -> dict[str, Any]:
    return {"$": "batches", "list": list(specs)}
