"""What a state machine may ask of the world.

A state machine (replication, controller, coordinator) never acts: every method returns a list of these, and the control
loop carries them out in the order of the list. What stays true: an effect is a plain immutable fact, it holds no
callback into the machine, and the loop reports back only through the machine's own methods (`appended`, `committed`,
`timer`, `told`). So a run can be recorded, compared and replayed.

    Reply            send this answer; each request gets exactly one
    Append           write these records as one batch, or merged with neighbours into one; then say `appended`
    SetTimer         call `timer(key)` at or after the deadline; a key has one timer, setting it again moves it
    CancelTimer      forget the timer, if there is one
    Ask              find something out, or have it done elsewhere; then say `told`
    CancelAsk        nobody waits for that any more
    PublishMembers   heartbeats of these members find nothing changed, and their offsets may be taken: by the data plane
    PublishConsumer  the same of one member of the consumer protocol
    WithdrawMembers  they are the machine's again
    Note             write a line to the log
"""

from __future__ import annotations

from collections.abc import Hashable

from pylog.facts import NamedTuple
from pylog.typed import TypeAlias


class Shard(NamedTuple):
    """A partition of an internal topic, and with it the part of a coordinator's state that its records hold."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class Reply(NamedTuple):
    """`reply_to`: what came in with the request, untouched. `message`: the response object, not yet encoded."""

    reply_to: Hashable
    message: object


class Producer(NamedTuple):
    """In whose transaction records are written."""

    producer_id: int
    epoch: int


class Append(NamedTuple):
    """Records for a shard, all or nothing. `records`: key and value, a value of None being a tombstone.

    `token`: identifies this append in `appended`. The broker may put several appends of no producer into one batch as
    long as their order stays; it tells each token its own first and last offset. With a producer the batch is
    transactional: its own, without a sequence. `control`: it is the marker that ends the producer's transaction.

    `heard`: only if no offsets of published members are in the log from here on, of which the machine has not heard;
    else `appended` gets COORDINATOR_LOAD_IN_PROGRESS. None: whatever is in the log. With it the batch is its own.
    """

    shard: Shard
    records: list[tuple[bytes, bytes | None]]
    token: int
    producer: Producer | None = None
    heard: int | None = None
    control: bool = False


class SetTimer(NamedTuple):
    """`deadline_ms`: on the clock whose `now_ms` the machine is given. A deadline in the past is due at once."""

    key: Hashable
    deadline_ms: int


class CancelTimer(NamedTuple):
    key: Hashable


class Ask(NamedTuple):
    """`question`: a plain fact whose class says what is asked and what the answer is. One answer, however late; a key
    has one question at a time."""

    key: Hashable
    question: object


class CancelAsk(NamedTuple):
    key: Hashable


class PublishMembers(NamedTuple):
    """Heartbeats of these members (id, instance id), when they say this epoch, need no decision: whoever answers them
    remembers when they came, and the machine asks for that before it holds one for dead.

    Nor do their offsets: whoever takes these writes them to `shard` and says `taken`. None: nobody does."""

    group_id: str
    epoch: int
    members: tuple[tuple[str, str | None], ...]
    shard: Shard | None = None


class PublishConsumer(NamedTuple):
    """Heartbeats of this member of the consumer protocol need no decision when they say this epoch and nothing else,
    with this client id and from this address, while `topics` is the number of the topics; whoever answers them tells
    it the interval, and remembers when they came. Nor do its offsets, whatever the topics, from a version of
    OffsetCommit on: they are no sign of life."""

    group_id: str
    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    epoch: int
    heartbeat_interval_ms: int
    topics: int
    commits_since: int
    shard: Shard | None = None


Publication: TypeAlias = PublishMembers | PublishConsumer


class WithdrawMembers(NamedTuple):
    """Heartbeats and offsets of these members are decided by the machine again, all that come after this was carried
    out. `forget`: nobody will ask any more when they came."""

    group_id: str
    members: tuple[str, ...]
    forget: bool


class Note(NamedTuple):
    """A line for the log. `message` is constant, what varies is in `fields`, so that lines can be counted."""

    subject: str
    message: str
    fields: tuple[tuple[str, object], ...] = ()
    warning: bool = False


Effect: TypeAlias = Reply | Append | SetTimer | CancelTimer | Ask | CancelAsk | Publication | WithdrawMembers | Note
