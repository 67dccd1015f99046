"""Diagnostics: all that is known of a user at this moment, from the store and from this node's own connections.

Of its own connections a node knows more, and sooner, than the store: which are CLOSING, and what has not been put
yet. What the store will make of that is computed here, on a copy and by the ledger's own rules, so that no answer ever
falls between the end of a connection and the window that it opens. Nothing is changed by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec

from stillhere.core.clock import StoreClock
from stillhere.core.connection import Connection, redacted_key
from stillhere.core.events import Transition
from stillhere.core.leases import LedgerState
from stillhere.core.ledger import Ledger
from stillhere.core.record import ConnectionSummary, Contribution, Grace, Record, Shown
from stillhere.core.show import status_of
from stillhere.core.words import Availability, Incarnation, ReadyState, Status, UserId
from stillhere.http.answers import ConnectionInfo, Diagnostics, GraceInfo, LastTransition
from stillhere.server.node import Node
from stillhere.store.contract import Store, StoreError, StoreUnavailable
from stillhere.wire.frames import ms

_MOMENT = 0.001
"""Half the width of the stretch of the timeline in which a transition of a known time is looked for, in seconds."""


async def diagnose(node: Node, user: UserId) -> Diagnostics:
    """Read everything; change nothing."""
    try:
        record = await known_record(node, user) or Record(user)
    except StoreError:
        return _alone(node, user)
    told = node.roster.contribution(user, node.monotonic())
    settled = _foresee(record, node.store.incarnation_for(user), told, node.store, node.now())
    others = [(inc, c) for inc, c in record.connections() if not node.store.mine(inc)]
    connections = [_own(node, c) for c in node.roster.of(user) if c.ready is not ReadyState.CLOSED]
    connections += [_other(user, inc, c) for inc, c in others]
    connections.sort(key=lambda c: (c.opened_at, c.connection_key))
    active = [c for c in connections if c.ready_state != ReadyState.CONNECTING]
    shown = record.shown
    last, complete = await _last_transition(node.store, user, shown)
    return Diagnostics(
        user=user,
        online=bool(active) or settled.grace is not None,
        status=_status(settled.shown.status),
        active_connection_count=len(active),
        connection_keys=[c.connection_key for c in active],
        connections=connections,
        grace=None if active or settled.grace is None else _grace(settled.grace),
        epoch=node.hub.epoch_of(user),
        version=shown.version,
        last_transition=last,
        complete=complete,
    )


async def known_record(node: Node, user: UserId) -> Record | None:
    """The record of a user; None for one of whom nothing is known.

    Raises:
        StoreError: also while the store is being told who is there, and this user may be.
    """
    record = await node.store.record(user)
    if (record is None or record.shown.status is Status.OFFLINE) and node.store.recovering(user):
        raise StoreUnavailable("the nodes have not all told the store yet whom they carry")
    return record


def _alone(node: Node, user: UserId) -> Diagnostics:
    """The store cannot be asked: this node's own connections are all that is known."""
    connections = [_own(node, c) for c in node.roster.of(user)]
    active = [c for c in connections if c.ready_state != ReadyState.CONNECTING]
    return Diagnostics(
        user=user,
        online=bool(active),
        status=_status(local_status(node, user)),
        active_connection_count=len(active),
        connection_keys=[c.connection_key for c in active],
        connections=connections,
        grace=None,
        epoch=node.hub.epoch_of(user),
        version=0,
        last_transition=None,
        complete=False,
    )


def local_status(node: Node, user: UserId) -> Status:
    """What this node can tell of a user without the store: never offline for lack of it."""
    active = [c for c in node.roster.contribution(user, node.monotonic()).connections if c.ready.active]
    return status_of(active) if active else Status.UNKNOWN


def _foresee(record: Record, incarnation: Incarnation, told: Contribution, store: Store, now: float) -> Record:
    """The record as it will be when the store has heard what this node knows. Deadlines are Unix time."""
    holds = {
        tab: msgspec.structs.replace(hold, deadline=store.deadline_at(hold.deadline))
        for tab, hold in record.holds.items()
    }
    grace = record.grace
    if grace is not None:
        grace = msgspec.structs.replace(grace, deadline=store.deadline_at(grace.deadline))
    copy = msgspec.structs.replace(
        record, shares=dict(record.shares), holds=holds, grace=grace, members=dict(record.members)
    )
    share = record.shares.get(incarnation)
    if told.revision <= (share.revision if share else 0):
        return copy  # the store has heard it already
    state = LedgerState(run="-", clock=StoreClock(now, now), leases={incarnation: float("inf")})
    ledger = Ledger(state=state)
    ledger.load([copy])
    ledger.put(now, incarnation, 0, [told])
    return ledger.records.get(record.user, copy)


def _own(node: Node, c: Connection) -> ConnectionInfo:
    """A connection of this node."""
    peer = node.peer(c.id)
    heard = None if peer is None or peer.socket is None else node.now() - (node.wheel.now - peer.heard)
    cause = msgspec.UNSET if c.cause is None else c.cause.value
    return _info(c.user, node.name, c, heard, cause)


def _other(user: UserId, incarnation: Incarnation, c: ConnectionSummary) -> ConnectionInfo:
    """A connection of another node, or of a former run that has not been reaped yet."""
    return _info(user, incarnation.rpartition("-")[0] or incarnation, c, None, msgspec.UNSET)


def _info(
    user: UserId,
    node: str,
    c: Connection | ConnectionSummary,
    heard: float | None,
    cause: str | msgspec.UnsetType,
) -> ConnectionInfo:
    return ConnectionInfo(
        connection_key=redacted_key(user, c.session, c.opened_at, c.id),
        ready_state=cast("Any", c.ready.value),
        opened_at=ms(c.opened_at),
        last_heard_at=None if heard is None else ms(heard),
        node=node,
        tab=c.tab,
        client=c.client,
        availability=cast("Any", (c.availability or Availability.ACTIVE).value),
        cause=cause,
    )


def _grace(grace: Grace) -> GraceInfo:
    return GraceInfo(grace.cause.value, ms(grace.started_at), ms(grace.window), ms(grace.deadline))


def _status(status: Status) -> Any:
    return status.value


async def _last_transition(store: Store, user: UserId, shown: Shown) -> tuple[LastTransition | None, bool]:
    """The newest transition of the user, and whether it could be looked for."""
    if not shown.version:
        return None, True
    try:
        page = await store.timeline(user, shown.changed_at - _MOMENT, shown.changed_at + _MOMENT, 1000)
    except StoreError:
        return None, False
    return _newest(page.entries), True


def _newest(entries: Sequence[Any]) -> LastTransition | None:
    for entry in reversed(entries):
        if isinstance(entry, Transition) and entry.room is None:
            return LastTransition(cast("Any", entry.change.value), ms(entry.at), entry.cause)
    return None
