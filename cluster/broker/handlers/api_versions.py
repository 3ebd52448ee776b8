"""ApiVersions (KIP-35, KIP-511): which requests are served here, at which versions."""

from __future__ import annotations

from cluster.broker.apis import Answer, Handler, Request
from cluster.protocol import messages as m
from cluster.protocol.api_keys import ApiKey
from cluster.protocol.served import NEWEST_TRANSACTION_VERSION, SERVED
from pylog.errors import ErrorCode
from pylog.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.broker.broker import Broker

#: Kafka requires of version 3 and up that a client names itself in characters that are safe in logs and metrics.
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.")


def _ranges(broker: Broker) -> list[m.ApiVersionsResponse.ApiVersion]:
    entry = m.ApiVersionsResponse.ApiVersion
    return [entry(api_key=key, min_version=lo, max_version=hi) for key, (lo, hi) in sorted(broker.apis.served.items())]


def unsupported() -> m.ApiVersionsResponse:
    """The answer, in version 0, to a version that is not served: the client learns from it which ones are."""
    lo, hi = SERVED[ApiKey.API_VERSIONS]
    entry = m.ApiVersionsResponse.ApiVersion(api_key=int(ApiKey.API_VERSIONS), min_version=lo, max_version=hi)
    return m.ApiVersionsResponse(error_code=int(ErrorCode.UNSUPPORTED_VERSION), api_keys=[entry])


def _safe(text: str) -> bool:
    return bool(text) and set(text) <= _SAFE and text[0] not in "-." and text[-1] not in "-."


def _serve(broker: Broker, request: Request) -> m.ApiVersionsResponse | Answer:
    message: m.ApiVersionsRequest = request.message
    named = _safe(message.client_software_name) and _safe(message.client_software_version)
    if request.api_version >= 3 and not named:
        return m.ApiVersionsResponse(error_code=int(ErrorCode.INVALID_REQUEST))
    answer = m.ApiVersionsResponse(api_keys=_ranges(broker), finalized_features_epoch=0)
    if not broker.clustered:  # whose brokers of old know no features
        name, newest = "transaction.version", NEWEST_TRANSACTION_VERSION
        supported = m.ApiVersionsResponse.SupportedFeatureKey(name=name, min_version=0, max_version=newest)
        finalized = m.ApiVersionsResponse.FinalizedFeatureKey(
            name=name, max_version_level=newest, min_version_level=newest
        )
        answer.supported_features, answer.finalized_features = [supported], [finalized]
    return Answer(answer)


def _refuse(request: Request, code: int) -> m.ApiVersionsResponse:
    return m.ApiVersionsResponse(error_code=code)


HANDLERS = {ApiKey.API_VERSIONS: Handler(m.ApiVersionsRequest.decode, _serve, _refuse)}
