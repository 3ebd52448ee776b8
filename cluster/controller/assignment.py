"""Where the replicas of new partitions go: spread over brokers, and over racks where every broker names one.

What stays true: the same arguments give the assignment that Kafka 3.9 computes from them. First replicas go round the
brokers from `start_index`; the others follow with a shift that grows with each round, so that the partitions of one
leader do not all share their followers.
"""

from collections.abc import Sequence

from cluster.model import Broker
from pylog.errors import ErrorCode, KafkaError


def assign_replicas(
    brokers: Sequence[Broker], *, partitions: int, replication_factor: int, start_index: int, first_partition: int = 0
) -> list[tuple[int, ...]]:
    """`brokers`: sorted by id. `start_index`: any number (chance, for a new topic). Raises KafkaError."""
    if partitions <= 0:
        raise KafkaError(ErrorCode.INVALID_PARTITIONS, "Number of partitions must be larger than 0.")
    if replication_factor <= 0:
        raise KafkaError(ErrorCode.INVALID_REPLICATION_FACTOR, "Replication factor must be larger than 0.")
    if replication_factor > len(brokers):
        raise KafkaError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"Replication factor: {replication_factor} larger than available brokers: {len(brokers)}.",
        )
    racks: dict[int, str | None] = {broker.id: broker.rack for broker in brokers}
    if None in racks.values():  # with some brokers of unknown rack the others' racks say nothing
        racks = dict.fromkeys(racks, None)
    order = _alternate_racks(brokers) if None not in racks.values() else [broker.id for broker in brokers]
    rack_count = len(set(racks.values()))
    shift = start_index
    assignment: list[tuple[int, ...]] = []
    for partition in range(first_partition, first_partition + partitions):
        if partition > 0 and partition % len(order) == 0:
            shift += 1
        first = (partition + start_index) % len(order)
        replicas = [order[first]]
        step = 0
        while len(replicas) < replication_factor:
            candidate = order[_follower(first, shift * rack_count, step, len(order))]
            step += 1
            used_racks = {racks[replica] for replica in replicas}
            if candidate not in replicas and (racks[candidate] not in used_racks or len(used_racks) == rack_count):
                replicas.append(candidate)
        assignment.append(tuple(replicas))
    return assignment


def start_index_to_grow(brokers: Sequence[Broker], first_replica: int) -> int:
    """Where to go on for more partitions of a topic whose partition 0 begins at `first_replica`."""
    return next((index for index, broker in enumerate(brokers) if broker.id >= first_replica), 0)


def _follower(first: int, shift: int, step: int, count: int) -> int:
    return (first + 1 + (shift + step) % (count - 1)) % count


def _alternate_racks(brokers: Sequence[Broker]) -> list[int]:
    """Brokers in turn from each rack: the first of every rack, then the second, …"""
    by_rack: dict[str, list[int]] = {}
    for broker in brokers:
        by_rack.setdefault(broker.rack or "", []).append(broker.id)
    columns = [by_rack[rack] for rack in sorted(by_rack)]
    longest = max(map(len, columns))
    return [column[turn] for turn in range(longest) for column in columns if turn < len(column)]
