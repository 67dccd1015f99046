"""The end of a simulation: after a long quiet everything must have come to rest, and everybody agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillhere.core.words import Phase, RoomName, Status

if TYPE_CHECKING:
    from stillhere.simulation.client import Tab
    from stillhere.simulation.house import Desk
    from stillhere.simulation.server import Server
    from stillhere.simulation.world import World


def examine(world: World) -> None:
    """Hold the end against the promises."""
    staying = {tab.user for tab in world.watchers} | {person.name for person in world.people if person.staying}
    for desk in world.house.desks:
        _desk(world, desk)
    for user in world.users:
        record = world.record_of(user)
        phase = Phase.OFFLINE if record is None else record.phase
        if (phase is Phase.ONLINE) != (user in staying):
            world.inspector.broken("end", f"{phase}, and {'connected' if user in staying else 'gone'}", user)
        alive = sum(wire.alive for wire in world.wires_of(user))
        if record is not None and record.active_count != alive:
            world.inspector.broken("end", f"{record.active_count} active connections, and {alive} sockets", user)
    for server in world.servers:
        _server(world, server)
    for tab in world.watchers:
        _watcher(world, tab)
    for person in world.people:
        for tab in person.staying:
            if not tab.live:
                world.inspector.broken("end", f"{tab.id} is not connected", person.name)


def _desk(world: World, desk: Desk) -> None:
    """I4: nothing is left of what is over."""
    state, ledger, broken = desk.ledger.state, desk.ledger, world.inspector.broken
    if state.dead:
        broken("I4", f"dead incarnations were not reaped: {sorted(state.dead)}")
    if ledger.windows_pending:
        broken("I4", f"{ledger.windows_pending} windows are pending")
    if len(state.leases) != len(world.servers):
        broken("I4", f"leases of {sorted(state.leases)}")
    for name, keys in (
        ("users", ledger.holders),
        ("channels", state.channels),
        ("last words", state.heard),
        ("processes", state.processes),
        ("descriptions", state.about),
    ):
        left = sorted(set(keys) - set(state.leases))
        if left:
            broken("I4", f"{name} of incarnations without a lease: {left}")
    if state.clock.on_hold:
        broken("end", f"the store clock is on hold at {state.clock.value} until {state.clock.held_until}")


def _server(world: World, server: Server) -> None:
    broken, node = world.inspector.broken, server.node
    if node is None or not server.up:
        broken("end", f"{server.name} is not up")
        return
    if node.ready is not None:
        broken("end", f"{server.name} is not ready: {node.ready}")
    if node.tasks.failed is not None:
        broken("end", f"a task of {server.name} failed: {node.tasks.failed}")
    for what in server.loop.broken:
        broken("end", f"{server.name}: {what}")
    alive = sum(wire.server is server and wire.loop is server.loop and wire.alive for wire in world.wires)
    if len(node.peers) != alive:
        broken("end", f"{server.name} has {len(node.peers)} peers, and {alive} sockets")
    if node.keeper._waiting:
        broken("end", f"{len(node.keeper._waiting)} acknowledgements of {server.name} are missing")


def _watcher(world: World, tab: Tab) -> None:
    """I3: what a watcher was sent last is what the store has."""
    broken, view = world.inspector.broken, tab.view
    if view is None or not tab.live:
        broken("end", f"{tab.id} is not connected", tab.user)
        return
    if tab.capacity is not None:
        return  # it may still have to read
    where = tab.wire.server.name if tab.wire is not None else "nowhere"
    for user in world.users:
        record = world.record_of(user)
        status = Status.OFFLINE if record is None else record.shown.status
        seen = view.users.get(user)
        if seen is None or seen.status != status:
            broken("I3", f"{view.name} on {where} sees {seen.status if seen else 'nothing'} instead of {status}", user)
    for name in view.rooms_followed:
        room = RoomName(name)
        there = {
            user: record.members[room].status.value
            for user in world.users
            if (record := world.record_of(user)) is not None and room in record.members
        }
        seen_there = {user: member.status for user, member in view.rooms.get(room, {}).items()}
        if there != seen_there:
            broken("I3", f"{view.name} on {where} sees {seen_there} in {room} instead of {there}")
