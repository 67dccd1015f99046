"""The log of what happens to connections and users: one event a line, names as in ``docs/protocol.md``.

Written through the standard library's logger ``stillhere.presence``, so that an application that embeds a node decides
where it goes; ``stillhere serve`` sends it to the standard output as JSON or ``key=value``. Connection keys are shown
redacted only, and no token ever comes here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from stillhere.core.connection import Connection, redacted_key
from stillhere.core.events import Change, Event, GraceCancelled, GraceExpired, GraceStarted, Returned, Transition
from stillhere.core.words import UserId
from stillhere.wire.frames import ms

LOGGER = logging.getLogger("stillhere.presence")
LOGGER.addHandler(logging.NullHandler())


Sink = Callable[[str, dict[str, Any]], None]
"""Writes one line at level ``info``. A handler may offer it as ``event``, since a ``LogRecord`` costs more to make than
its line to write."""


class EventLog:
    """Writes events; costs next to nothing where nobody listens."""

    def __init__(self, node: str, logger: logging.Logger = LOGGER) -> None:
        """Prefix every line with the name of the node."""
        self._node = node
        self._logger = logger

    def emit(self, event: str, **fields: Any) -> None:
        """One line. The fields go to the handler as ``record.fields``."""
        logger = self._logger
        if logger.isEnabledFor(logging.INFO):
            sink = self._sink()
            if sink is not None:
                sink(event, {"node": self._node, **fields})
                return
            record = logger.makeRecord(logger.name, logging.INFO, "", 0, event, (), None)
            record.fields = {"node": self._node, **fields}
            logger.handle(record)

    def _sink(self) -> Sink | None:
        """That of the only handler, where nobody else could miss a record: no filter, no parent."""
        logger = self._logger
        handlers = logger.handlers
        if len(handlers) != 1 or logger.propagate or logger.filters:
            return None
        handler = handlers[0]
        if handler.filters or handler.level > logging.INFO:
            return None
        return getattr(handler, "event", None)

    def connection(self, event: str, c: Connection, active: int, **fields: Any) -> None:
        """One line about a connection.

        Args:
            event: its name.
            c: the connection.
            active: ``activeConnectionsForUser`` after the event.
            fields: what else applies; ``code`` and ``cause`` are taken from the connection where it has them.
        """
        if not self._logger.isEnabledFor(logging.INFO):
            return
        if c.cause is not None:
            fields.setdefault("cause", c.cause.value)
        if c.code:
            fields.setdefault("code", c.code)
        self.emit(
            event,
            user=c.user,
            connKey=redacted_key(c.user, c.session, c.opened_at, c.id),
            activeConnectionsForUser=active,
            **fields,
        )

    def presence(self, event: Event, active: int) -> None:
        """One line about a user, where the protocol has a name for what happened."""
        match event:
            case Transition(change=Change.ONLINE | Change.OFFLINE):
                self.emit(
                    event.change.value,
                    user=event.user,
                    activeConnectionsForUser=event.connections,
                    cause=event.cause,
                    version=event.version,
                    status=event.shown.status.value if event.shown else None,
                )
            case GraceStarted():
                self._window("grace_started", event.user, active, event.cause, windowMs=ms(event.window))
            case GraceCancelled():
                self._window("grace_cancelled", event.user, active, event.cause, gapMs=ms(event.gap), by=event.by)
            case GraceExpired():
                self._window("grace_expired", event.user, active, event.cause, ghostMs=ms(event.ghost))
            case Returned():
                self._window(
                    "user_reconnected",
                    event.user,
                    active,
                    event.cause,
                    gapMs=ms(event.gap),
                    falseOffline=event.false_offline,
                )
            case _:
                pass

    def _window(self, name: str, user: UserId, active: int, cause: str, **fields: Any) -> None:
        self.emit(name, user=user, activeConnectionsForUser=active, cause=str(cause), **fields)
