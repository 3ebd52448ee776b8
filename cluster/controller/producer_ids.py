"""Producer ids, given to brokers in blocks.

What stays true: no id is ever in two blocks, whoever else gives out blocks at the same time: the last one stands in the
tree and is replaced by its version.
"""

from __future__ import annotations

from cluster.controller.image import Image
from cluster.controller.steps import Run, read_producer_id_block, write_producer_id_block
from cluster.effects import Note
from cluster.protocol.messages import AllocateProducerIdsRequest, AllocateProducerIdsResponse
from pylog.errors import ErrorCode
from pylog.types import FOREVER

BLOCK = 1_000
"""Ids in a block."""


def allocate_producer_ids(image: Image, request: AllocateProducerIdsRequest) -> Run[AllocateProducerIdsResponse]:
    broker = image.brokers.get(request.broker_id)
    if broker is None:
        return AllocateProducerIdsResponse(error_code=int(ErrorCode.BROKER_ID_NOT_REGISTERED))
    if broker.epoch != request.broker_epoch:
        return AllocateProducerIdsResponse(error_code=int(ErrorCode.STALE_BROKER_EPOCH))
    while True:
        first, version = yield from read_producer_id_block()
        if first > FOREVER - BLOCK:
            yield Note("Controller", "All producer ids were given out", warning=True)
            return AllocateProducerIdsResponse(error_code=int(ErrorCode.UNKNOWN_SERVER_ERROR))
        if (yield from write_producer_id_block(request.broker_id, first, first + BLOCK - 1, version)):
            return AllocateProducerIdsResponse(producer_id_start=first, producer_id_len=BLOCK)
