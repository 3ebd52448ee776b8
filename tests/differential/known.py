"""Differences that are meant, each with its reason. What is not here is a fault of ours.

Keep it short: an entry excuses one field of one API under one condition, not an API.
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import NamedTuple

from tests.differential.compare import MISSING, Difference

_REBALANCING = ("PreparingRebalance", "CompletingRebalance")


class Known(NamedTuple):
    api: str
    path: str
    when: Callable[[Difference], bool]
    why: str


def always(_: Difference) -> bool:
    return True


def kafka_is_silent(difference: Difference) -> bool:
    return bool(difference.theirs == "silent")


def code(ours: int, theirs: int) -> Callable[[Difference], bool]:
    """The struct that the difference is in has these error codes."""

    def fits(difference: Difference) -> bool:
        one, other = difference.context[-1]
        return bool(one.get("error_code") == ours and other.get("error_code") == theirs)

    return fits


def field(name: str, value: object) -> Callable[[Difference], bool]:
    """The struct that the difference is in has this value."""
    return lambda difference: bool(difference.context[-1][0].get(name) == value)


def every_code_is(code: int) -> Callable[[Difference], bool]:
    return lambda difference: all(each.get("error_code") == code for each in difference.theirs)


def says(text: str) -> Callable[[Difference], bool]:
    return lambda difference: text in str(difference.ours) and text in str(difference.theirs)


def fails_whole(difference: Difference) -> bool:
    """Kafka answers UNKNOWN_SERVER_ERROR to the whole request."""
    return bool(difference.context[0][1].get("error_code") == -1)


def of_one_node(difference: Difference) -> bool:
    name = str(difference.context[-1][0].get("name"))
    return name.startswith(("offsets.topic.", "transaction.state.log."))


def started_before(difference: Difference) -> bool:
    return bool(difference.context[-1][0].get("transaction_state") == "Empty" and difference.ours == -1)


def goes_on(difference: Difference) -> bool:
    """3.9 says that the producer is fenced, in versions before 4 in the words of old."""
    one, other = difference.context[-1]
    return bool(one.get("error_code") == 0 and other.get("error_code") in (47, 90))


def is_fenced(difference: Difference) -> bool:
    return difference.ours in (47, 49) and difference.theirs in (22, 25, 47, 82)


def from_the_log(difference: Difference) -> bool:
    return difference.ours == 47 and difference.theirs in (42, 48, 49)


def old_epoch(difference: Difference) -> bool:
    return difference.ours in (42, 49) and difference.theirs == 47


def left_over(difference: Difference) -> bool:
    ours, theirs = difference.context[-1]
    return bool(ours.get("group_state") == "Empty" and theirs.get("group_state") == "Dead")


def is_forgotten(difference: Difference) -> bool:
    ours, theirs = difference.context[-1]
    return bool(ours.get("group_state") == "Dead" and theirs.get("group_state") == "Empty")


def left_no_group(difference: Difference) -> bool:
    return bool(difference.context[0][0].get("error_code") == 69)


def more_groups(difference: Difference) -> bool:
    return all(each in difference.ours for each in difference.theirs)


def fewer_groups(difference: Difference) -> bool:
    return all(each in difference.theirs for each in difference.ours)


def of_no_group(difference: Difference) -> bool:
    return bool(difference.context[0][1].get("error_code") == 69)


def says_no_group(difference: Difference) -> bool:
    return difference.ours in (22, 25) and difference.theirs in (22, 25, 69)


def repeated(difference: Difference) -> bool:
    ours, theirs = ({part["partition_index"] for part in each} for each in (difference.ours, difference.theirs))
    return ours == theirs and len(difference.ours) < len(difference.theirs)


def of_no_partition(difference: Difference) -> bool:
    return bool([each for each in difference.theirs if each["partitions"]] == difference.ours)


def still_rebalances(difference: Difference) -> bool:
    group = difference.context[1][0]
    return difference.ours == "" and group.get("group_state") in _REBALANCING


def asks_for_a_group(difference: Difference) -> bool:
    """Among others perhaps: 3.9 refuses them all."""
    theirs = difference.context[0][1]["results"]
    return any(each["resource_type"] == 32 for each in theirs) and all(each["error_code"] == 42 for each in theirs)


def of_a_group(difference: Difference) -> bool:
    return bool(difference.context[-1][1].get("resource_type") == 32)


def in_words(difference: Difference) -> bool:
    """Both say something, or Kafka says which magic it does not know."""
    return isinstance(difference.theirs, str) and (bool(difference.ours) or "Invalid magic" in difference.theirs)


def diverges(difference: Difference) -> bool:
    """Kafka names the epoch 0 that ends at 0 to one who read beyond the end of an empty log."""
    nothing: tuple[dict[str, object], dict[str, object]] = ({}, {})
    ours, theirs = next((pair for pair in difference.context if "diverging_epoch" in pair[0]), nothing)
    return ours.get("error_code") == 1 and theirs.get("diverging_epoch") == {"epoch": 0, "end_offset": 0}


def all_corrupt(difference: Difference) -> bool:
    parts = [part for topic in difference.context[0][1]["responses"] for part in topic["partition_responses"]]
    return all(part["error_code"] == 2 for part in parts)


def nothing_aborted(difference: Difference) -> bool:
    return not difference.ours and not difference.theirs


def still_deleting(difference: Difference) -> bool:
    return any(part["offset_lag"] == -1 for topic in difference.theirs for part in topic["partitions"])


def forgotten(difference: Difference) -> bool:
    """A parked request whose member sent another one, or is gone."""
    return difference.theirs == MISSING and difference.ours.get("error_code") in (25, 27)


def says_settings(difference: Difference) -> bool:
    return bool(difference.theirs == difference.ours | 1 << 10 | 1 << 11)


KNOWN: list[Known] = [
    Known(
        "(poll)",
        "*",
        forgotten,
        "3.9 forgets the first of two JoinGroups of a member, and the SyncGroup of one that left",
    ),
    Known("(poll)", "*", code(25, -1), "3.9 fails over an id that was given to a dynamic member and comes back static"),
    Known(
        "DeleteGroups",
        "results.error_code",
        code(0, 69),
        "when the offsets of a group without members are deleted 3.9 forgets it, though one was told to come back",
    ),
    Known("*", "groups.authorized_operations", says_settings, "4.x: a group's settings may be seen and set"),
    Known(
        "*",
        "transaction_states.transaction_start_time_ms",
        started_before,
        "3.9 shows when the last transaction began to who has begun none since, until its coordinator is loaded anew",
    ),
    Known(
        "InitProducerId",
        "*",
        goes_on,
        "one node has the feature transaction.version: as in Kafka 4, a producer may go on from the abort of another"
        " that came for its transactional id and has got no epoch yet",
    ),
    Known(
        "TxnOffsetCommit",
        "topics.partitions.error_code",
        is_fenced,
        "of two faults: Kafka asks nobody about a producer that has a transaction here, be it another's or of another"
        " epoch, and looks at the member first",
    ),
    Known(
        "Produce",
        "responses.partition_responses.error_code",
        from_the_log,
        "as in 4.x an epoch is held against the log's before its coordinator is asked; 3.9 asks first",
    ),
    Known(
        "Produce",
        "*.log_start_offset",
        code(47, 47),
        "3.9 has the log refuse an old epoch of a producer with a transaction there; here its coordinator does",
    ),
    Known("ApiVersions", "api_keys*", always, "other APIs and versions are served"),
    Known("ApiVersions", "*_features*", always, "one node has the feature transaction.version, as Kafka 4"),
    Known("DescribeConfigs", "results.configs.synonyms.value", of_one_node, "the default of ours is for one node"),
    Known("DescribeConfigs", "results*", asks_for_a_group, "one node has settings of groups, as Kafka 4"),
    Known("DescribeConfigs", "results.configs.documentation", always, "the texts are Kafka's; a client shows its own"),
    Known("AlterConfigs", "responses.error_*", of_a_group, "likewise, and they may be changed"),
    Known("IncrementalAlterConfigs", "responses.error_*", of_a_group, "likewise"),
    Known("AlterConfigs", "", kafka_is_silent, "Kafka 3.9 never answers when a resource is named twice"),
    Known(
        "CreateTopics",
        "",
        kafka_is_silent,
        "DECISIONS 8: Kafka 3.9 makes a topic on brokers that are not there, and waits",
    ),
    Known("CreatePartitions", "results.#", every_code_is(-1), "one name that ZooKeeper cannot hold fails all in 3.9"),
    Known("CreateTopics", "topics.error_*", code(39, -1), "DECISIONS 8: 3.9 tries to make a partition below 0"),
    Known("CreateTopics", "topics.error_message", says("HashMap("), "in the order of a hash table"),
    Known("CreateTopics", "topics.error_message", says("Null value not"), "a setting that is null twice is named once"),
    Known("Fetch", "*", fails_whole, "3.9 fails over a topic id that is all zero"),
    Known("Fetch", "session_id", field("error_code", 106), "3.9 gives the wrong session back with the error"),
    Known("OffsetFetch", "", kafka_is_silent, "3.9 never answers a request about no group"),
    Known("IncrementalAlterConfigs", "responses.error_*", code(3, 40), "ZooKeeper refuses the name . in its own words"),
    Known("IncrementalAlterConfigs", "responses.error_*", code(42, 40), "likewise, of a request with two faults"),
    Known("IncrementalAlterConfigs", "responses.error_*", code(40, -1), "3.9 fails over a setting without a name"),
    Known(
        "FindCoordinator", "coordinators.error_code", code(42, 15), "no share groups: 3.9 says it so since version 6"
    ),
    Known("Fetch", "responses.partitions.error_code", code(6, 75), "asked in its own name a broker says another error"),
    Known(
        "Fetch",
        "responses.partitions.current_leader*",
        code(6, 6),
        "a stranger that asks as a replica is told who leads",
    ),
    Known(
        "Fetch",
        "responses.partitions*",
        diverges,
        "an empty log of ours has no epoch to diverge from until it is written to",
    ),
    Known("Produce", "*.record_errors*", always, "ours names the first record that is wrong, not each"),
    Known("Produce", "*.error_message", in_words, "ours does not list the records in words"),
    Known("Produce", "responses.*", all_corrupt, "over one batch whose size or magic is wrong 3.9 refuses all of them"),
    Known("Fetch", "responses.partitions*", code(0, -1), "3.9 fails over a replica id below -2"),
    Known("Fetch", "responses.partitions.current_leader*", code(6, 75), "a broker that asks in its own name"),
    Known("Fetch", "*.aborted_transactions", nothing_aborted, "null and none mean the same; 3.9 says either"),
    Known("DescribeLogDirs", "results.topics.#", still_deleting, "3.9 shows a log that it is about to delete"),
    Known(
        "CreatePartitions",
        "results*",
        code(3, -1),
        "one name that ZooKeeper cannot hold fails the whole request in 3.9; 4.x says 3 of it as we do",
    ),
    Known("IncrementalAlterConfigs", "responses.error_*", field("resource_type", 8), "there are no log4j loggers here"),
    Known("CreateTopics", "topics*", code(39, 0), "DECISIONS 8, in a request whose time is up at once"),
    Known("CreateTopics", "topics*", code(39, 7), "DECISIONS 8, in a request whose time is up at once"),
    Known(
        "CreatePartitions",
        "results*",
        code(37, -1),
        "one name that ZooKeeper cannot hold fails the whole request in 3.9",
    ),
    Known(
        "CreatePartitions",
        "results*",
        code(39, -1),
        "one name that ZooKeeper cannot hold fails the whole request in 3.9",
    ),
    Known(
        "CreatePartitions",
        "results*",
        code(42, -1),
        "one name that ZooKeeper cannot hold fails the whole request in 3.9",
    ),
    Known(
        "IncrementalAlterConfigs",
        "responses.error_*",
        code(42, -1),
        "3.9 fails over an operation that does not exist; it is refused here",
    ),
]

#: Where 4.x does otherwise than 3.9, which ours follows.
KNOWN_OF_4: list[Known] = [
    Known("CreatePartitions", "results.error_message", always, "4.x has words of its own"),
    Known("DeleteTopics", "responses.error_message", always, "likewise"),
    Known("OffsetFetch", "groups.error_code", code(25, -1), "4.x fails over an epoch of nobody"),
    Known(
        "Heartbeat",
        "error_code",
        code(27, 0),
        "4.3 has classic members of a consumer group join again for a new assignment, 3.9 for a new epoch: there may be"
        " nobody else to have an assignment made",
    ),
    Known("(poll)", "*", code(27, 0), "likewise"),
    Known("ConsumerGroupHeartbeat", "error_message", says("Supported assignors"), "in the order of a hash table"),
    Known("ConsumerGroupHeartbeat", "error_message", says("is not a valid regular"), "in the words of another library"),
    Known(
        "DescribeGroups",
        "groups.members.member_assignment",
        still_rebalances,
        "4.x shows the assignment before to who asks while a group rebalances",
    ),
    Known("CreateTopics", "topics.configs.#", always, "4.x has lost some settings of topics, and has others"),
    Known("DescribeGroups", "groups.*", left_over, "4.x makes no group of a commit that is refused"),
    Known("ListGroups", "groups.#", more_groups, "likewise"),
    Known("DeleteGroups", "results.error_code", code(0, 69), "likewise"),
    Known("OffsetDelete", "*", of_no_group, "likewise"),
    Known(
        "OffsetCommit", "topics.partitions.error_code", says_no_group, "likewise; since version 9 it has a word for it"
    ),
    Known("TxnOffsetCommit", "topics.partitions.error_code", says_no_group, "likewise"),
    Known("OffsetCommit", "topics.partitions.#", repeated, "4.x answers a partition as often as it was named"),
    Known("OffsetDelete", "topics.partitions.#", repeated, "likewise"),
    Known("DeleteGroups", "results.error_code", code(69, 0), "3.9 forgets a group whose last offset is deleted"),
    Known("ListGroups", "groups.#", fewer_groups, "likewise"),
    Known("OffsetDelete", "*", left_no_group, "likewise"),
    Known("DescribeGroups", "groups.*", is_forgotten, "likewise"),
    Known("TxnOffsetCommit", "topics.partitions.#", repeated, "4.x answers a partition as often as it was named"),
    Known(
        "TxnOffsetCommit",
        "topics.partitions.error_code",
        old_epoch,
        "4.x holds an epoch against the log's before it asks whose producer it is",
    ),
    Known("OffsetFetch", "*topics.#", of_no_partition, "4.x names the topics of which no partition was asked for"),
]


def reason(difference: Difference, oracle: str = "kafka39") -> str | None:
    """Why a difference is meant, or None."""
    for known in [*KNOWN, *(KNOWN_OF_4 if oracle == "kafka4" else [])]:
        if (
            fnmatchcase(difference.api, known.api)
            and fnmatchcase(difference.path, known.path)
            and known.when(difference)
        ):
            return known.why
    return None
