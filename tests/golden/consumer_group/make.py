"""Says the scripts to Apache Kafka 4.3.1 and writes down what came of them.

    python -m tests.golden.consumer_group.make PORT > kafka43.jsonl

The broker: one node, group.consumer.assignment.interval.ms=0, group.initial.rebalance.delay.ms=0,
offsets.topic.num.partitions=1; topics a, b and c are made, groups are named anew each time.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

from cluster.coordinator.group_records import decode
from cluster.protocol import messages as m
from pylog._native import batch_records, read_batch_header
from tests.broker.raw import Raw
from tests.golden.consumer_group.scripts import SCRIPTS, TOPICS, beat
from tests.golden.consumer_group.shown import Shown

_LARGEST = 1 << 30
_PATIENCE_S = 0.5


class Kafka:
    def __init__(self, port: int) -> None:
        self.raw = Raw(port)
        self._ids: dict[str, bytes] = {}
        create = m.CreateTopicsRequest.CreatableTopic
        wanted = [create(name=name, num_partitions=count, replication_factor=1) for name, count in TOPICS.items()]
        self.raw.ask(m.CreateTopicsRequest(topics=wanted, timeout_ms=10_000), 7)
        while len(self._ids) < len(TOPICS):
            named = [m.MetadataRequest.MetadataRequestTopic(name=name) for name in TOPICS]
            found = self.raw.ask(m.MetadataRequest(topics=named), 12)
            self._ids = {each.name: each.topic_id for each in found.topics if not each.error_code}
        while self.raw.ask(m.FindCoordinatorRequest(coordinator_keys=["g"]), 4).coordinators[0].error_code:
            pass
        while self.raw.ask(m.ListGroupsRequest(), 4).error_code:
            pass
        self.read = 0

    def id(self, topic: str) -> bytes:
        return self._ids[topic]

    def clear(self) -> None:
        """No group is left of the script before."""
        who = m.LeaveGroupRequest.MemberIdentity
        for group in self.raw.ask(m.ConsumerGroupDescribeRequest(group_ids=["g"]), 1).groups:
            for member in group.members:
                leaving = beat(self, "", member.member_id, -1, instance=member.instance_id)
                self.raw.ask(leaving.request, leaving.version)
        for group in self.raw.ask(m.DescribeGroupsRequest(groups=["g"]), 5).groups:
            gone = [who(member_id=member.member_id) for member in group.members]
            self.raw.ask(m.LeaveGroupRequest(group_id="g", members=gone), 3)
        self.raw.ask(m.DeleteGroupsRequest(groups_names=["g"]), 2)
        self.facts()

    def facts(self) -> list[object]:
        """What was written since the last time."""
        partition = m.FetchRequest.FetchPartition(
            partition=0, fetch_offset=self.read, partition_max_bytes=_LARGEST, current_leader_epoch=-1
        )
        topic = m.FetchRequest.FetchTopic(topic="__consumer_offsets", partitions=[partition])
        request = m.FetchRequest(max_wait_ms=100, min_bytes=1, max_bytes=_LARGEST, session_epoch=-1, topics=[topic])
        data = bytes(self.raw.ask(request, 11).responses[0].partitions[0].records or b"")
        facts: list[object] = []
        at = 0
        while at < len(data):
            header = read_batch_header(data, at)
            for record in batch_records(data[at : at + header.size_bytes], _LARGEST):
                if record.offset >= self.read:
                    facts.append(None if record.key is None else decode(record.key, record.value))
                    self.read = record.offset + 1
            at += header.size_bytes
        return facts


def main() -> None:
    kafka = Kafka(int(sys.argv[1]))
    names = {kafka.id(topic): topic for topic in TOPICS}
    for name, script in SCRIPTS.items():
        kafka.clear()
        shown = Shown(names)
        steps = script(kafka)
        answer: Any = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration:
                break
            if step.settles:
                threading.Event().wait(_PATIENCE_S)
            answer = kafka.raw.ask(step.request, step.version)
            said = shown.answer(answer)
            if step.settles:
                threading.Event().wait(_PATIENCE_S)
            facts = shown.facts(kafka.facts())
            print(json.dumps({"script": name, "step": step.label, "answer": said, "facts": facts}))


if __name__ == "__main__":
    main()
