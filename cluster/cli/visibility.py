"""Which batches a reader sees: never control batches, and never those of aborted transactions the broker told of.

What it keeps true: a reader of committed records sees a batch if and only if it is outside of transactions or its
transaction was committed; the broker keeps what is still undecided out of its answers, and names the aborted
transactions.
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster.cli.fetcher import Fetched
from pylog.records import RecordBatch, end_marker


def visible_batches(fetched: Fetched) -> Iterator[RecordBatch]:
    """The batches of a fetch without what its reader must not see."""
    ahead = sorted(fetched.aborted, key=lambda transaction: transaction[1], reverse=True)
    aborting: set[int] = set()
    for batch in fetched.batches:
        while ahead and ahead[-1][1] < batch.next_offset:
            aborting.add(ahead.pop()[0])
        if batch.control:
            markers = [end_marker(record) for record in batch.records()]
            if any(marker is not None and not marker.committed for marker in markers):
                aborting.discard(batch.header.producer_id)
        elif not (batch.transactional and batch.header.producer_id in aborting):
            yield batch
