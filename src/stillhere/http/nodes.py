"""Calls about nodes."""

from __future__ import annotations

from starlette.responses import Response

from stillhere.core.events import NoticeKind
from stillhere.http.answers import Draining, NodeInfo, Nodes
from stillhere.http.call import Call, answer
from stillhere.http.errors import Refused
from stillhere.http.examples import AT, NODE
from stillhere.http.operations import Access, Answer, Operation
from stillhere.server.neighbours import decode_about
from stillhere.server.node import Node
from stillhere.wire.frames import ms


async def _nodes(call: Call) -> Response:
    """This node as it is, the others as of their last beat."""
    node = call.api.node
    now = node.statistics()
    own = NodeInfo(
        node=now.node,
        incarnation=now.incarnation,
        started_at=ms(now.started_at),
        connections=now.connections,
        users=now.users,
        lease_ms=node.settings.cluster.lease_ms,
        ready=node.ready is None,
        draining=now.draining,
        isolated=node.isolation.isolated,
    )
    found = [own]
    for state in await node.store.nodes():
        about = decode_about(state.about)
        if node.store.mine(state.incarnation) or about is None:
            continue
        found.append(
            NodeInfo(
                node=about.node,
                incarnation=state.incarnation,
                started_at=ms(about.started_at),
                connections=about.connections,
                users=about.users,
                lease_ms=about.lease_ms,
                ready=about.ready,
                draining=about.draining,
                isolated=False,
            )
        )
    return answer(Nodes(sorted(found, key=lambda told: (told.node, told.incarnation))))


async def _drain(call: Call) -> Response:
    """Start the drain in the background; asking again changes nothing."""
    api, name = call.api, call.path("node")
    node = api.node
    if name != node.name:
        return await _drain_another(node, name)
    connections = len(node.peers)
    if not (node.draining or api.drains):
        api.drains = True
        node.tasks.spawn(node.drain())
    return answer(Draining(node.name, connections, ms(node.settings.server.drain_s)), 202)


async def _drain_another(node: Node, name: str) -> Response:
    """Ask it through the log; it answers to nobody, but /v1/nodes shows it."""
    for state in await node.store.nodes():
        about = decode_about(state.about)
        if about is not None and about.node == name:
            await node.store.notify(NoticeKind.DRAIN, name)
            return answer(Draining(name, about.connections, ms(node.settings.server.drain_s)), 202)
    raise Refused(404, f"there is no node {name[:64]!r} that this one can drain; its own name is {node.name!r}")


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/nodes",
        handler=_nodes,
        tag="Nodes",
        summary="The nodes",
        access=Access.READ,
        answer=Answer(
            Nodes,
            example=Nodes([NodeInfo("n1", "n1-5d0c9f3a7b1e2846", AT, 2, 1, 15_000, True, False, False)]),
            description="This node as it is, the others as of their last beat.",
        ),
    ),
    Operation(
        method="POST",
        path="/v1/nodes/{node}/drain",
        handler=_drain,
        tag="Nodes",
        summary="Move everybody away from this node",
        description=(
            "Each connection is told when to reconnect (`moving`), then closed with 1012; the closes are spread over "
            "`server.drain_s`. From now on the node takes no connection and `/readyz` answers 503. "
            "Another node is asked through the store."
        ),
        access=Access.ADMIN,
        parameters={"node": NODE},
        answer=Answer(Draining, 202, example=Draining("n1", 2, 10_000), description="The drain has begun."),
        problems=(400, 404),
    ),
)
