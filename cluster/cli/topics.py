"""`pylog topics`: list, create, describe, alter, delete."""

from __future__ import annotations

import argparse
import sys
from base64 import urlsafe_b64encode

from cluster.cli.arguments import add_connection, connect, key_value, positive_int
from cluster.cli.client import ClusterClient
from cluster.cli.errors import CommandError, UsageError, check, refusal
from cluster.cli.output import print_line, print_table
from cluster.cli.settings import TOPIC, alter, changed_settings
from cluster.protocol import messages as m
from pylog.errors import ErrorCode

_BROKER_DECIDES = -1
_NO_ID = bytes(16)
_NO_TOPICS = "no topics yet; `pylog topics create NAME` creates one"
Topic = m.MetadataResponse.MetadataResponseTopic


def build_parser() -> argparse.ArgumentParser:
    """The options of all its verbs."""
    parser = argparse.ArgumentParser(prog="pylog topics", description="List and change topics.")
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    verb = verbs.add_parser("list", help="names, partitions, replicas")
    verb.add_argument("--internal", action="store_true", help="also those that belong to the cluster itself")
    verb.set_defaults(run=_list)
    add_connection(verb)

    verb = verbs.add_parser("create", help="create a topic")
    verb.add_argument("topic", nargs="+")
    verb.add_argument("-p", "--partitions", type=positive_int, metavar="N", help="default: the broker's num.partitions")
    verb.add_argument("-r", "--replication-factor", type=positive_int, metavar="N", help="default: the broker's")
    verb.add_argument("-c", "--config", type=key_value, action="append", default=[], metavar="KEY=VALUE")
    verb.add_argument("--if-not-exists", action="store_true", help="a topic that is there already is fine")
    verb.set_defaults(run=_create)
    add_connection(verb)

    verb = verbs.add_parser("describe", help="partitions with leader, replicas and in-sync replicas")
    verb.add_argument("topic", nargs="*", help="default: all but internal ones")
    verb.set_defaults(run=_describe)
    add_connection(verb)

    verb = verbs.add_parser("alter", help="add partitions, change settings")
    verb.add_argument("topic")
    verb.add_argument("-p", "--partitions", type=positive_int, metavar="N", help="grow to so many in all")
    verb.add_argument("-c", "--config", type=key_value, action="append", default=[], metavar="KEY=VALUE")
    verb.add_argument("-d", "--delete-config", action="append", default=[], metavar="KEY", help="back to the default")
    verb.set_defaults(run=_alter)
    add_connection(verb)

    verb = verbs.add_parser("delete", help="delete topics with all their records")
    verb.add_argument("topic", nargs="+")
    verb.add_argument("--if-exists", action="store_true", help="a topic that is not there is fine")
    verb.set_defaults(run=_delete)
    add_connection(verb)
    return parser


def _list(options: argparse.Namespace) -> int:
    with connect(options) as cluster:
        topics = [topic for topic in cluster.all_topics() if options.internal or not topic.is_internal]
    rows = [
        (topic.name, len(topic.partitions), max((len(p.replica_nodes) for p in topic.partitions), default=0))
        for topic in topics
    ]
    if not rows and sys.stdout.isatty():
        print_line(_NO_TOPICS)
        return 0
    print_table(("TOPIC", "PARTITIONS", "REPLICAS"), rows, numbers=("PARTITIONS", "REPLICAS"))
    return 0


def _create(options: argparse.Namespace) -> int:
    names = list(dict.fromkeys(options.topic))
    with connect(options) as cluster:
        counts = (options.partitions or _BROKER_DECIDES, options.replication_factor or _BROKER_DECIDES)
        by_broker = _BROKER_DECIDES in counts
        request = m.CreateTopicsRequest(
            topics=[
                m.CreateTopicsRequest.CreatableTopic(
                    name=name,
                    num_partitions=counts[0],
                    replication_factor=counts[1],
                    configs=[
                        m.CreateTopicsRequest.CreatableTopicConfig(name=key, value=value)
                        for key, value in options.config
                    ],
                )
                for name in names
            ],
            timeout_ms=cluster.timeout_ms,
        )

        def attempt() -> m.CreateTopicsResponse:
            # Only from version 4 on may the broker be asked to choose the counts.
            versions = (4, 7) if by_broker else (0, 7)
            answer = cluster.controller().request(request, m.CreateTopicsResponse, versions=versions)
            _retry_elsewhere([topic.error_code for topic in answer.topics])
            return answer

        failures = 0
        for topic in cluster.retry(attempt).topics:
            if topic.error_code == ErrorCode.TOPIC_ALREADY_EXISTS and options.if_not_exists:
                print_line(f"topic {topic.name} is there already")
            elif topic.error_code == ErrorCode.NONE:
                print_line(f"created topic {topic.name}{_shape(topic)}")
            else:
                failures += 1
                _say_refused(f"cannot create topic {topic.name!r}", topic.error_code, topic.error_message)
    return 1 if failures else 0


def _shape(topic: m.CreateTopicsResponse.CreatableTopicResult) -> str:
    if topic.num_partitions < 0:
        return ""  # versions before 5 do not say
    partitions = "1 partition" if topic.num_partitions == 1 else f"{topic.num_partitions} partitions"
    return f": {partitions}, replication factor {topic.replication_factor}"


def _describe(options: argparse.Namespace) -> int:
    with connect(options) as cluster:
        if options.topic:
            topics = cluster.retry(lambda: cluster.metadata(options.topic)).topics
        else:
            topics = [topic for topic in cluster.all_topics() if not topic.is_internal]
        there = [topic for topic in topics if topic.error_code == ErrorCode.NONE]
        settings = changed_settings(cluster, TOPIC, [topic.name or "" for topic in there])
    if not topics and sys.stdout.isatty():
        print_line(_NO_TOPICS)
    show = _draw_topic if sys.stdout.isatty() else _print_topic
    for topic in there:
        show(topic, settings[topic.name or ""])
    for topic in topics:
        if topic.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
            print(f"pylog: topic {topic.name!r} does not exist", file=sys.stderr)
        elif topic.error_code != ErrorCode.NONE:
            _say_refused(f"cannot describe topic {topic.name!r}", topic.error_code, None)
    return 0 if len(there) == len(topics) else 1


def _draw_topic(topic: Topic, settings: dict[str, str]) -> None:
    """For a person."""
    count = len(topic.partitions)
    print_line(f"{topic.name}: {count} partition{'s' if count != 1 else ''}{_id_text(topic, ', id ')}")
    if settings:
        print_line("  " + ", ".join(f"{key}={value}" for key, value in settings.items()))
    rows = [
        (p.partition_index, _leader(p.leader_id), _ids(p.replica_nodes), _ids(p.isr_nodes), _ids(p.offline_replicas))
        for p in sorted(topic.partitions, key=lambda p: p.partition_index)
    ]
    print_table(("PARTITION", "LEADER", "REPLICAS", "IN SYNC", "OFFLINE"), rows, numbers=("PARTITION", "LEADER"))
    print_line()


def _print_topic(topic: Topic, settings: dict[str, str]) -> None:
    """For a script: the fields and the order of kafka-topics."""
    replicas = max((len(p.replica_nodes) for p in topic.partitions), default=0)
    configs = ",".join(f"{key}={value}" for key, value in settings.items())
    print_line(
        f"Topic: {topic.name}{_id_text(topic, chr(9) + 'TopicId: ')}\tPartitionCount: {len(topic.partitions)}"
        f"\tReplicationFactor: {replicas}\tConfigs: {configs}"
    )
    for p in sorted(topic.partitions, key=lambda p: p.partition_index):
        print_line(
            f"\tTopic: {topic.name}\tPartition: {p.partition_index}\tLeader: {_leader(p.leader_id)}"
            f"\tReplicas: {_ids(p.replica_nodes)}\tIsr: {_ids(p.isr_nodes)}"
        )


def _leader(node_id: int) -> str:
    return "none" if node_id < 0 else str(node_id)


def _ids(nodes: list[int]) -> str:
    return ",".join(map(str, nodes))


def _id_text(topic: Topic, before: str) -> str:
    """Brokers before 2.8 have no topic ids."""
    return "" if topic.topic_id == _NO_ID else before + urlsafe_b64encode(topic.topic_id).decode().rstrip("=")


def _alter(options: argparse.Namespace) -> int:
    if not (options.partitions or options.config or options.delete_config):
        raise UsageError("nothing to alter: give --partitions, --config or --delete-config")
    with connect(options) as cluster:
        cluster.partitions(options.topic)  # says so when there is none
        if options.config or options.delete_config:
            alter(cluster, TOPIC, options.topic, dict(options.config), options.delete_config)
            print_line(f"changed the settings of topic {options.topic}")
        if options.partitions:
            _grow(cluster, options.topic, options.partitions)
            print_line(f"topic {options.topic} has {options.partitions} partitions now")
    return 0


def _grow(cluster: ClusterClient, topic: str, count: int) -> None:
    request = m.CreatePartitionsRequest(
        topics=[m.CreatePartitionsRequest.CreatePartitionsTopic(name=topic, count=count, assignments=None)],
        timeout_ms=cluster.timeout_ms,
    )

    def attempt() -> None:
        result = cluster.controller().request(request, m.CreatePartitionsResponse).results[0]
        check(result.error_code, result.error_message)

    cluster.retry(attempt)


def _delete(options: argparse.Namespace) -> int:
    names = list(dict.fromkeys(options.topic))
    with connect(options) as cluster:
        request = m.DeleteTopicsRequest(topic_names=names, timeout_ms=cluster.timeout_ms)
        # Version 6 names topics in another field, for the sake of ids, which nothing here needs.
        request_by_struct = m.DeleteTopicsRequest(
            topics=[m.DeleteTopicsRequest.DeleteTopicState(name=name) for name in names], timeout_ms=cluster.timeout_ms
        )

        def attempt() -> m.DeleteTopicsResponse:
            peer = cluster.controller()
            if peer.serves(m.DeleteTopicsRequest, (0, 5)):
                answer = peer.request(request, m.DeleteTopicsResponse, versions=(0, 5))
            else:
                answer = peer.request(request_by_struct, m.DeleteTopicsResponse, versions=(6, 6))
            _retry_elsewhere([topic.error_code for topic in answer.responses])
            return answer

        failures = 0
        for topic in cluster.retry(attempt).responses:
            if topic.error_code == ErrorCode.NONE:
                print_line(f"deleted topic {topic.name}")
            elif topic.error_code != ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
                failures += 1
                _say_refused(f"cannot delete topic {topic.name!r}", topic.error_code, topic.error_message)
            elif not options.if_exists:
                failures += 1
                print(f"pylog: topic {topic.name!r} does not exist", file=sys.stderr)
    return 1 if failures else 0


def _retry_elsewhere(codes: list[int]) -> None:
    """Another broker became the controller: nothing was done, ask again."""
    if ErrorCode.NOT_CONTROLLER in codes:
        raise refusal(ErrorCode.NOT_CONTROLLER)


def _say_refused(what: str, code: int, message: str | None) -> None:
    error = refusal(code, message)
    if error.code == ErrorCode.UNSUPPORTED_VERSION:
        raise CommandError(f"{what}: the broker is too old")
    print(f"pylog: {what}: {error.message.rstrip('.')} ({error.code.name})", file=sys.stderr)
