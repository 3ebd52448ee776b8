"""What security keeps in the tree: ACLs, delegation tokens, and their change notifications.

What stays true: as in `paths.py`. Literal ACLs are at /kafka-acl/TYPE/NAME, prefixed ones at
/kafka-acl-extended/prefixed/TYPE/NAME; a change of the former is announced as plain text, of the latter as JSON.
"""

from __future__ import annotations

from cluster.metadata.json_data import decode_json, encode_json, integer, items, string, strings
from pylog.facts import NamedTuple
from pylog.typed import Self

ACLS = "/kafka-acl"
ACL_CHANGES = "/kafka-acl-changes"
ACL_CHANGE_PREFIX = "/kafka-acl-changes/acl_changes_"
EXTENDED_ACLS = "/kafka-acl-extended"
PREFIXED_ACLS = "/kafka-acl-extended/prefixed"
EXTENDED_ACL_CHANGES = "/kafka-acl-extended-changes"
EXTENDED_ACL_CHANGE_PREFIX = "/kafka-acl-extended-changes/acl_changes_"
DELEGATION_TOKENS = "/delegation_token/tokens"
TOKEN_CHANGES = "/delegation_token/token_changes"
TOKEN_CHANGE_PREFIX = "/delegation_token/token_changes/token_change_"

# In the order in which a Kafka broker makes them.
RESOURCE_TYPES = ("Group", "DelegationToken", "TransactionalId", "Cluster", "Topic", "User")


def acl(resource_type: str, name: str, *, prefixed: bool) -> str:
    return f"{PREFIXED_ACLS if prefixed else ACLS}/{resource_type}/{name}"


class Acl(NamedTuple):
    """One line of a resource's list. `permission`: Allow or Deny; `operation`: All, Read, Write, …"""

    principal: str
    permission: str
    host: str
    operation: str


def encode_acls(acls: tuple[Acl, ...]) -> bytes:
    lines = [
        {"principal": each.principal, "permissionType": each.permission, "host": each.host, "operation": each.operation}
        for each in acls
    ]
    return encode_json({"acls": lines, "version": 1})


def decode_acls(data: bytes | None) -> tuple[Acl, ...]:
    return tuple(
        Acl(string(line, "principal"), string(line, "permissionType"), string(line, "host"), string(line, "operation"))
        for line in items(decode_json(data), "acls")
    )


class LiteralAclChange(NamedTuple):
    """`TOPIC:name`."""

    resource_type: str
    name: str

    def encode(self) -> bytes:
        return f"{self.resource_type}:{self.name}".encode()

    @classmethod
    def decode(cls, data: bytes | None) -> Self:
        kind, colon, name = (data or b"").decode().partition(":")
        if not colon:
            raise ValueError(f"no change of an ACL: {data!r}")
        return cls(kind, name)


class ExtendedAclChange(NamedTuple):
    resource_type: str
    name: str
    pattern_type: str

    def encode(self) -> bytes:
        value = {"version": 1, "resourceType": self.resource_type, "name": self.name, "patternType": self.pattern_type}
        return encode_json(value)

    @classmethod
    def decode(cls, data: bytes | None) -> Self:
        value = decode_json(data)
        return cls(string(value, "resourceType"), string(value, "name"), string(value, "patternType"))


class DelegationToken(NamedTuple):
    """/delegation_token/tokens/ID. Principals are `User%3Aname`. Times are ms."""

    token_id: str
    owner: str
    requester: str
    renewers: tuple[str, ...]
    issue_ms: int
    expiry_ms: int
    max_ms: int

    def encode(self) -> bytes:
        return encode_json(
            {
                "issueTimestamp": self.issue_ms,
                "renewers": list(self.renewers),
                "tokenRequester": self.requester,
                "tokenId": self.token_id,
                "owner": self.owner,
                "expiryTimestamp": self.expiry_ms,
                "maxTimestamp": self.max_ms,
                "version": 3,
            }
        )

    @classmethod
    def decode(cls, data: bytes | None) -> Self:
        """Before version 3 there was no requester but the owner."""
        value = decode_json(data)
        owner = string(value, "owner")
        return cls(
            string(value, "tokenId"),
            owner,
            string(value, "tokenRequester", owner),
            strings(value, "renewers"),
            integer(value, "issueTimestamp"),
            integer(value, "expiryTimestamp"),
            integer(value, "maxTimestamp"),
        )
