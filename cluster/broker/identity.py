"""Which broker this is, of which cluster: agreed between settings, data directories and the metadata tree, or refused.

What stays true: once a data directory has a meta.properties its broker id and cluster id never change; a disagreement
is one line that names both sides. Start-up only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence

from cluster.metadata.startup import generate_broker_id, prepare_tree
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple
from pylog.meta_properties import MetaProperties, new_cluster_id, read_meta_properties, write_meta_properties
from pylog.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cluster.config import Config
    from cluster.metadata.store import Store

_FIRST_BROKER_ID: Final = 1


class Identity(NamedTuple):
    broker_id: int
    cluster_id: str


def tree_directory(directories: Sequence[str], file_name: str, offline: Mapping[str, str]) -> str:
    """The data directory that holds the metadata tree: where it is already, else the first.

    log.dirs may be given in another order than before, so the file is looked for. offline: directories that cannot be
    used, with why. Raises KAFKA_STORAGE_ERROR when the tree may be in one of those: a new one would know no topic.
    """
    found = [path for path in directories if os.path.exists(os.path.join(path, file_name))]
    if len(found) > 1:
        raise KafkaError(
            ErrorCode.KAFKA_STORAGE_ERROR,
            f"{file_name} is in more than one of log.dirs ({', '.join(found)}); "
            "move away the one that is not this broker's",
        )
    if not found and offline:
        which = "; ".join(f"{path} ({why})" for path, why in offline.items())
        raise KafkaError(
            ErrorCode.KAFKA_STORAGE_ERROR,
            f"{file_name} is in none of the log.dirs that can be used, so it may be in {which}; "
            "repair that directory or take it out of log.dirs",
        )
    return found[0] if found else directories[0]


def establish(config: Config, directories: Sequence[str], store: Store) -> Identity:
    """Who we are; written to every data directory that does not say it yet. Raises KafkaError, OSError."""
    metas = {path: read_meta_properties(path) for path in directories}
    for path, meta in metas.items():
        if meta is not None and meta.version != 0:
            raise _refused(f"{path} belongs to a KRaft node (meta.properties version {meta.version})")
    _check_directory_ids(metas)
    cluster_id = prepare_tree(store, _stored_cluster_id(metas) or new_cluster_id())
    for path, meta in metas.items():
        if meta is not None and meta.cluster_id not in (None, cluster_id):
            raise _refused(
                f"The Cluster ID {cluster_id} doesn't match stored clusterId {meta.cluster_id} "
                f"in {path}/meta.properties"
            )
    broker_id = _broker_id(config, metas, store)
    for path, meta in metas.items():
        if meta is None:
            fresh = MetaProperties(0, broker_id, cluster_id)
            write_meta_properties(path, fresh, int(time.time() * 1000))
    return Identity(broker_id, cluster_id)


def _check_directory_ids(metas: dict[str, MetaProperties | None]) -> None:
    """No two directories are one: a copy of a directory, beside it in log.dirs, is a mistake."""
    seen: dict[str, str] = {}
    for path, meta in metas.items():
        if meta is None or meta.directory_id is None:
            continue
        other = seen.setdefault(meta.directory_id, path)
        if other != path:
            raise _refused(f"Duplicate directory ID {meta.directory_id} found: in {other} and in {path}")


def _stored_cluster_id(metas: dict[str, MetaProperties | None]) -> str | None:
    return next((meta.cluster_id for meta in metas.values() if meta is not None and meta.cluster_id), None)


def _broker_id(config: Config, metas: dict[str, MetaProperties | None], store: Store) -> int:
    stored = {meta.broker_id for meta in metas.values() if meta is not None and meta.broker_id is not None}
    if len(stored) > 1:
        raise _refused(f"log.dirs belong to different brokers: ids {', '.join(map(str, sorted(stored)))}")
    if config.broker_id_is_set:
        wanted = config.broker_id
        for other in stored - {wanted}:
            raise _refused(
                f"Configured broker.id {wanted} doesn't match stored broker.id {other} in meta.properties. "
                "If you moved your data, make sure your configured broker.id matches."
            )
        return wanted
    if stored:
        return stored.pop()
    if config.broker_id >= 0:
        return config.broker_id
    if not config.bool("broker.id.generation.enable"):
        return _FIRST_BROKER_ID
    return generate_broker_id(store, config.int("reserved.broker.max.id"))


def _refused(text: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_CONFIG, text)
