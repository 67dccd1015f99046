"""Calls for whoever runs the server: is it alive, is it ready, how is it, and what can it do."""

from __future__ import annotations

import msgspec
from prometheus_client.exposition import choose_encoder
from starlette.responses import Response

from stillhere.http.answers import Health
from stillhere.http.call import Call, answer
from stillhere.http.errors import RETRY_AFTER, Refused
from stillhere.http.operations import JSON, Answer, Operation

METRICS_MEDIA = "text/plain"


async def _healthz(call: Call) -> Response:
    if call.api.node.tasks.failed is not None:
        raise Refused(500, "a task of the node failed, as its log tells; replace the process")
    return answer(Health("ok"))


async def _readyz(call: Call) -> Response:
    reason = call.api.node.ready
    if reason is not None:
        # anybody may ask; what exactly is wrong with the store names hosts, and the log tells it to the operator
        raise Refused(503, reason.partition(":")[0], RETRY_AFTER)
    return answer(Health("ready"))


async def _metrics(call: Call) -> Response:
    encode, media = choose_encoder(call.request.headers.get("accept", ""))
    return Response(encode(call.api.node.metrics.registry), headers={"Content-Type": media})


async def _document(call: Call) -> Response:
    root = call.request.scope.get("root_path", "")
    return Response(msgspec.json.encode({**call.api.document, "servers": [{"url": root or "/"}]}), media_type=JSON)


OPERATIONS = (
    Operation(
        method="GET",
        path="/healthz",
        handler=_healthz,
        tag="Service",
        summary="Is the process alive?",
        answer=Answer(Health, example=Health("ok"), description="It is."),
        problems=(500,),
    ),
    Operation(
        method="GET",
        path="/readyz",
        handler=_readyz,
        tag="Service",
        summary="Can it take connections?",
        description=(
            "The store has answered lately and the node is not draining. Nodes ask each other this, too: one that "
            "alone cannot reach the store moves its clients away."
        ),
        answer=Answer(Health, example=Health("ready"), description="It can."),
        problems=(503,),
    ),
    Operation(
        method="GET",
        path="/metrics",
        handler=_metrics,
        tag="Service",
        summary="Metrics for Prometheus",
        description="In the OpenMetrics format where the request's Accept asks for it.",
        answer=Answer(media=METRICS_MEDIA, description="All metrics of this node."),
    ),
    Operation(
        method="GET",
        path="/openapi.json",
        handler=_document,
        tag="Service",
        summary="This document",
        answer=Answer(dict, description="OpenAPI 3.1."),
    ),
)
