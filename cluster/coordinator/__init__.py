"""Coordinators: the state that lives in the records of an internal topic: of groups, and of transactions.

What stays true:
  - no threads, sockets, clocks or chance: methods take an event and `now_ms`, and return effects (`cluster.effects`);
  - durable state changes only by replaying records that are committed; a rebalance in progress, timers and parked
    requests are soft and start again on a new coordinator;
  - every request is answered exactly once, at the latest when its shard is unloaded.

    runtime.py            hosts shards, one per partition of an internal topic: records out, commits in, timers, merging
    shard.py              what a coordinator must look like to be hosted; the writes of one shard that are in flight
    group_kind.py         the group coordinator as the runtime sees it: routing, splitting, refusing, record formats
    group_coordinator.py  the groups of one shard
    group.py, members.py  one group: its state machine; who is in it
    offsets.py            what one group has committed
    group_records.py      facts <-> records of __consumer_offsets
    consumer_*.py         groups of the consumer protocol: ..._coordinator.py takes their requests, one of a group after
                          another (lane.py), ..._heartbeat.py and ..._classic.py decide, ..._group.py holds the records
    assignor*.py          who is to have what; reconciliation.py: a member's next step towards it
    transaction_*.py      ..._kind.py, ..._coordinator.py, ..._records.py as for groups; ..._steps.py: what a step makes
                          of a transactional id; ..._end.py: whether it may end so; ..._state.py: the ways there are
    questions.py          what a coordinator of transactions asks of the world
    find_coordinator.py   which shard answers for a key

Threads: the control loop owns everything here; no other thread may enter.
"""
