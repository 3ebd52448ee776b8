"""Dynamic settings of topics, brokers and groups: reading and changing them.

What it keeps true: a change names only the keys it changes (IncrementalAlterConfigs); nobody's other settings are
touched.
"""

from __future__ import annotations

from cluster.broker.peer import Peer
from cluster.cli.client import ClusterClient
from cluster.cli.errors import check
from cluster.protocol import messages as m

TOPIC = 2
BROKER = 4
GROUP = 32

_SET = 0
_DELETE = 1
# Sources of a value, as DescribeConfigs numbers them.
_DYNAMIC = {TOPIC: {1}, BROKER: {2, 3}, GROUP: {8}}
SOURCES = {
    0: "unknown",
    1: "topic",
    2: "broker",
    3: "all brokers",
    4: "server.properties",
    5: "default",
    6: "logger",
    8: "group",
}

Setting = m.DescribeConfigsResponse.DescribeConfigsResourceResult


def describe(cluster: ClusterClient, kind: int, names: list[str]) -> dict[str, list[Setting]]:
    """All settings of each resource by name. Raises what the broker refuses."""
    found: dict[str, list[Setting]] = {}
    for name in names:
        request = m.DescribeConfigsRequest(
            resources=[
                m.DescribeConfigsRequest.DescribeConfigsResource(
                    resource_type=kind, resource_name=name, configuration_keys=None
                )
            ]
        )

        def attempt(request: m.DescribeConfigsRequest = request, name: str = name) -> list[Setting]:
            answer = _responsible(cluster, kind, name).request(request, m.DescribeConfigsResponse)
            check(answer.results[0].error_code, answer.results[0].error_message)
            return answer.results[0].configs

        found[name] = sorted(cluster.retry(attempt), key=lambda setting: setting.name)
    return found


def changed_settings(cluster: ClusterClient, kind: int, names: list[str]) -> dict[str, dict[str, str]]:
    """Only what was set for the resource itself."""
    return {
        name: {setting.name: setting.value or "" for setting in settings if setting.config_source in _DYNAMIC[kind]}
        for name, settings in describe(cluster, kind, names).items()
    }


def alter(cluster: ClusterClient, kind: int, name: str, set_to: dict[str, str], delete: list[str]) -> None:
    """Set some keys and return others to their defaults. Raises what the broker refuses; then nothing was changed."""
    changes = [
        m.IncrementalAlterConfigsRequest.AlterableConfig(name=key, config_operation=_SET, value=value)
        for key, value in set_to.items()
    ]
    changes += [
        m.IncrementalAlterConfigsRequest.AlterableConfig(name=key, config_operation=_DELETE, value=None)
        for key in delete
    ]
    request = m.IncrementalAlterConfigsRequest(
        resources=[
            m.IncrementalAlterConfigsRequest.AlterConfigsResource(
                resource_type=kind, resource_name=name, configs=changes
            )
        ]
    )

    def attempt() -> None:
        peer = cluster.controller() if kind in (TOPIC, GROUP) else _responsible(cluster, kind, name)
        result = peer.request(request, m.IncrementalAlterConfigsResponse).responses[0]
        check(result.error_code, result.error_message)

    cluster.retry(attempt)


def _responsible(cluster: ClusterClient, kind: int, name: str) -> Peer:
    """A broker answers for itself only; for anything else, and the default of all brokers, any does."""
    return cluster.broker(int(name)) if kind == BROKER and name else cluster.any_broker()
