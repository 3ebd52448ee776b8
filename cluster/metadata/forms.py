"""In which form nodes are written under an inter.broker.protocol.version; all forms are read always.

What stays true: a cluster that is upgraded broker by broker keeps the setting of its oldest broker until the last one
is done, and until then nothing is written that the oldest cannot read.
"""

from __future__ import annotations

from cluster.metadata.paths import FeatureNode
from pylog.facts import NamedTuple

_LAST_STEP = 1 << 16


class Forms(NamedTuple):
    """`broker`, `controller`: the versions of /brokers/ids/N and /controller. `topic_ids`: whether topics get them."""

    broker: int
    controller: int
    feature: FeatureNode
    topic_ids: bool


def forms_of(protocol_version: str) -> Forms:
    """`protocol_version`: such as 3.9-IV0, or 2.6 for the last of that release. Raises ValueError."""
    version = _parsed(protocol_version)
    return Forms(
        broker=5 if version >= (2, 7) else 4 if version >= (0, 10, 0, 1) else 2,
        controller=2 if version >= (3, 4) else 1,
        feature=FeatureNode(1 if version >= (2, 7) else 0, 2 if version >= (3, 3) else 1),
        topic_ids=version >= (2, 8),
    )


def _parsed(protocol_version: str) -> tuple[int, ...]:
    release, _, step = protocol_version.partition("-IV")
    return (*map(int, release.split(".")), int(step) if step else _LAST_STEP)
