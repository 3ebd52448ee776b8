"""The first steps of a broker on the tree, as operations: what Kafka 3.9 writes when it starts, in its order.

What stays true: nothing that is there already is changed but /controller_epoch, which rises with each controller; a
broker's registration and the controller's node are ephemeral, and each is written together with what it means.
"""

from collections.abc import Callable, Iterable

from cluster.metadata import paths
from cluster.metadata.store import Create, Delete, NodeExists, NoNode, Op, SetData, Stat, Store, StoreError

_CHANGES_KEPT_MS = 15 * 60_000


def prepare_tree(store: Store, cluster_id: str) -> str:
    """Make whatever is missing of the persistent paths and the cluster's id; returns the id that holds.

    `cluster_id`: a fresh one, used only in a tree without.
    """
    while True:
        wanted: list[Op] = [Create(path) for path in (*paths.PERSISTENT, paths.CLUSTER)]
        wanted.append(Create(paths.CLUSTER_ID, paths.ClusterIdNode(cluster_id).encode()))
        found = store.get_many([(op.path, None) for op in wanted])
        ops = [op for op, node in zip(wanted, found, strict=True) if isinstance(node, StoreError)]
        try:
            if ops:
                store.multi(ops)
        except NodeExists:
            continue  # another broker of the cluster is starting as well
        return paths.ClusterIdNode.decode(store.get(paths.CLUSTER_ID)[0]).cluster_id


def generate_broker_id(store: Store, reserved_max_id: int) -> int:
    """A number that no broker was ever given: `reserved_max_id` (reserved.broker.max.id) and up."""
    return store.set(paths.BROKER_SEQUENCE, b"").version + reserved_max_id


def register_broker(store: Store, broker_id: int, registration: paths.BrokerRegistration) -> int:
    """Returns the broker epoch. Raises NodeExists while another session holds the id."""
    path = paths.broker(broker_id)
    store.multi([Create(path, None, ephemeral=True), SetData(path, registration.encode())])
    return store.get(path)[1].czxid


def register_when_free(
    store: Store,
    broker_id: int,
    registration: paths.BrokerRegistration,
    *,
    pause: Callable[[], bool],
    say: Callable[[str], None],
) -> int:
    """As `register_broker`, but waits for a session that holds the id: our own, of before a crash, ends by itself.

    Kafka 3.9 dies there. `pause` waits a little and returns False to give up, upon which NodeExists is raised; `say`
    is told once what is being waited for. A broker of the same id that lives is waited for as well: it looks no other.
    """
    path = paths.broker(broker_id)
    told = False
    while True:
        try:
            return register_broker(store, broker_id, registration)
        except NodeExists:
            holder = store.exists(path)
            if holder is None:
                continue  # gone in between
            if not told:
                told = True
                say(
                    f"{path} belongs to session 0x{holder.ephemeral_owner & (1 << 64) - 1:x}; registering when that "
                    "ends, as it does within its timeout if its broker is not running any more"
                )
            if not pause():
                raise


def become_controller(store: Store, broker_id: int, now_ms: int, *, version: int = 2) -> tuple[int, int]:
    """Returns the new controller epoch and the znode version that fences its writes. `version`: of /controller's form.

    Raises NodeExists when there is a controller, or another one just makes the first epoch; BadVersion when another was
    faster.
    """
    ops: list[Op] = []
    epoch = fence = 0
    if store.exists(paths.CONTROLLER_EPOCH) is None:
        ops.append(Create(paths.CONTROLLER_EPOCH, paths.encode_controller_epoch(0)))
    else:
        data, stat = store.get(paths.CONTROLLER_EPOCH)
        epoch, fence = paths.decode_controller_epoch(data), stat.version
    epoch += 1
    ops.append(Create(paths.CONTROLLER, paths.ControllerNode(broker_id, now_ms, version).encode(), ephemeral=True))
    ops.append(SetData(paths.CONTROLLER_EPOCH, paths.encode_controller_epoch(epoch), fence))
    changed = store.multi(ops)[-1]
    assert isinstance(changed, Stat)
    return epoch, changed.version


def tidy_up(store: Store) -> None:
    """What a new controller does first: the feature node, and notifications that were for a controller before it."""
    ops = feature_ops(store, paths.FeatureNode())
    for parent in (paths.ISR_CHANGES, paths.LOG_DIR_EVENTS):
        ops += [Delete(f"{parent}/{name}") for name in store.children(parent)]
    if ops:
        store.multi(ops)


def feature_ops(store: Store, wanted: paths.FeatureNode) -> list[Op]:
    """What makes /feature as inter.broker.protocol.version wants it; nothing where it is so. Finalized features that
    stand there stay, in the form that is wanted."""
    try:
        data, stat = store.get(paths.FEATURE)
    except NoNode:
        return [Create(paths.FEATURE, wanted.encode())]
    known = paths.FeatureNode.decode(data)
    if wanted.status and known.status:
        wanted = wanted._replace(features=known.features_in(wanted.version))
    return [SetData(paths.FEATURE, wanted.encode(), stat.version)] if wanted != known else []


def outdated_changes(store: Store, names: Iterable[str], now_ms: int) -> list[Op]:
    """Config notifications that every broker must have seen: Kafka keeps them for fifteen minutes."""
    ops: list[Op] = []
    for name in names:
        stat = store.exists(f"{paths.CONFIG_CHANGES}/{name}")
        if stat is not None and stat.ctime + _CHANGES_KEPT_MS < now_ms:
            ops.append(Delete(f"{paths.CONFIG_CHANGES}/{name}"))
    return ops
