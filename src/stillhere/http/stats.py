"""``/v1/stats``: what there is now, what happened since the node started, and how fast."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta
from prometheus_client.metrics import MetricWrapperBase
from starlette.responses import Response

from stillhere.core.events import Change
from stillhere.http.answers import At, Told
from stillhere.http.call import Call, answer
from stillhere.http.examples import AT
from stillhere.http.operations import Access, Answer, Operation
from stillhere.server.metrics import Metrics
from stillhere.wire.frames import ms

_APART = 5.0
"""Seconds between two samples."""

_WINDOW = 60.0
"""Over how many seconds a rate is taken, where there are samples."""


class Now(Told, frozen=True):
    """Counts of this moment."""

    connections: Annotated[int, Meta(description="On this node.")]
    users: Annotated[int, Meta(description="With something on this node.")]
    users_present: Annotated[int, Meta(description="Online or in a window, as the store has it.")]
    users_known: int
    windows_pending: int
    rooms: int
    topics: Annotated[int, Meta(description="Users and rooms that somebody on this node follows.")]


class Totals(Told, frozen=True):
    """Counts since this node started."""

    connects: int
    disconnects: int
    refused: int
    online: Annotated[int, Meta(description="How often somebody became online.")]
    offline: int
    updated: int
    messages: Annotated[int, Meta(description="Messages of clients.")]
    frames: Annotated[int, Meta(description="Frames with changes handed to sockets.")]


class PerSecond(Told, frozen=True):
    """The same, per second, over the last ``over_ms``."""

    over_ms: Annotated[int, Meta(description="About a minute where these figures are read often, else more.")]
    connects: float
    disconnects: float
    transitions: float
    messages: float
    frames: float


class FalseOffline(Told, frozen=True):
    """How good the grace windows are, since this node started."""

    total: Annotated[int, Meta(description="OFFLINEs after which the same tab or session came back in time.")]
    by_cause: dict[str, int]
    returns: Annotated[dict[str, int], Meta(description="Tabs and sessions that came back, by the cause they went.")]
    ghost_ms: Annotated[dict[str, int], Meta(description="How long users who were gone were still shown, by cause.")]
    too_short_ms: Annotated[
        dict[str, int],
        Meta(description="By how much the windows of false offlines were too short, summed up, by cause."),
    ]
    window_ms: Annotated[dict[str, int], Meta(description="The windows in force, by cause.")]


class Service(Told, frozen=True):
    """How the process is."""

    started_at: At
    store: str
    store_reachable: bool
    store_backlog: Annotated[int, Meta(description="Changes that are not durable yet.")]
    loop_lag_ms: int
    loop_stalled_ms: int
    draining: bool


class Stats(Told, frozen=True):
    """Figures of a node."""

    at: At
    node: str
    now: Now
    totals: Totals
    per_second: PerSecond
    false_offline: FalseOffline
    service: Service


class Rates:
    """Remembers totals, at most one set every few seconds, to tell what happened in between."""

    def __init__(self, monotonic: float) -> None:
        """Begin with nothing counted at this time."""
        self._samples: deque[tuple[float, Totals]] = deque([(monotonic, Totals(0, 0, 0, 0, 0, 0, 0, 0))])

    def of(self, monotonic: float, totals: Totals) -> PerSecond:
        """Rates at this time, in seconds on the node's clock."""
        samples = self._samples
        if monotonic - samples[-1][0] >= _APART:
            samples.append((monotonic, totals))
        while len(samples) > 1 and samples[1][0] <= monotonic - _WINDOW:
            samples.popleft()
        since, before = samples[0]
        over = max(monotonic - since, 1.0)

        def rate(*names: str) -> float:
            happened: int = sum(getattr(totals, name) - getattr(before, name) for name in names)
            return round(happened / over, 3)

        return PerSecond(
            ms(over),
            connects=rate("connects"),
            disconnects=rate("disconnects"),
            transitions=rate("online", "offline", "updated"),
            messages=rate("messages"),
            frames=rate("frames"),
        )


def _values(metric: MetricWrapperBase, label: str, suffix: str = "_total") -> dict[str, float]:
    """The samples of a metric, summed by one label; an empty label sums them all."""
    found: dict[str, float] = {}
    for family in metric.collect():
        for sample in family.samples:
            if sample.name.endswith(suffix):
                key = sample.labels.get(label, "")
                found[key] = found.get(key, 0.0) + sample.value
    return found


def _whole(values: dict[str, float], factor: int = 1) -> dict[str, int]:
    return {key: round(value * factor) for key, value in sorted(values.items())}


def _sum(values: Iterable[float]) -> int:
    return round(sum(values))


def totals_of(metrics: Metrics) -> Totals:
    """The counters of a node."""
    changes = _values(metrics.transitions, "change")
    return Totals(
        connects=_sum(_values(metrics.connects, "").values()),
        disconnects=_sum(_values(metrics.disconnects, "").values()),
        refused=_sum(_values(metrics.refused, "").values()),
        online=round(changes.get(Change.ONLINE.value, 0)),
        offline=round(changes.get(Change.OFFLINE.value, 0)),
        updated=round(changes.get(Change.UPDATED.value, 0)),
        messages=_sum(_values(metrics.received, "").values()),
        frames=_sum(_values(metrics.frames, "").values()),
    )


async def _stats(call: Call) -> Response:
    node = call.api.node
    figures = node.statistics()
    metrics = node.metrics
    totals = totals_of(metrics)
    false = _whole(_values(metrics.false_offline, "cause"))
    return answer(
        Stats(
            at=ms(node.now()),
            node=figures.node,
            now=Now(
                connections=figures.connections,
                users=figures.users,
                users_present=figures.present,
                users_known=figures.known,
                windows_pending=figures.windows_pending,
                rooms=figures.rooms,
                topics=figures.topics,
            ),
            totals=totals,
            per_second=call.api.rates.of(node.monotonic(), totals),
            false_offline=FalseOffline(
                total=sum(false.values()),
                by_cause=false,
                returns=_whole(_values(metrics.reconnect_gap, "cause", "_count")),
                ghost_ms=_whole(_values(metrics.ghost_seconds, "cause"), 1000),
                too_short_ms=_whole(_values(metrics.too_short, "cause", "_sum"), 1000),
                window_ms={
                    cause.value: ms(seconds) for cause, seconds in sorted(node.settings.grace.policy.windows.items())
                },
            ),
            service=Service(
                started_at=ms(figures.started_at),
                store=figures.store,
                store_reachable=figures.store_reachable,
                store_backlog=figures.store_backlog,
                loop_lag_ms=ms(figures.loop_lag),
                loop_stalled_ms=ms(figures.loop_stalled),
                draining=figures.draining,
            ),
        )
    )


_EXAMPLE = Stats(
    at=AT,
    node="n1",
    now=Now(2, 1, 1, 12, 0, 1, 3),
    totals=Totals(31, 29, 1, 12, 11, 4, 87, 164),
    per_second=PerSecond(60_000, 0.4, 0.383, 0.2, 1.45, 2.733),
    false_offline=FalseOffline(
        total=1,
        by_cause={"client_close": 1},
        returns={"client_close": 3, "going_away": 17},
        ghost_ms={"going_away": 80_000},
        too_short_ms={"client_close": 1_200},
        window_ms={"client_close": 3000, "going_away": 8000},
    ),
    service=Service(AT - 3_600_000, "sqlite", True, 0, 1, 0, False),
)

OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/stats",
        handler=_stats,
        tag="Nodes",
        summary="Figures",
        description="Counts, rates, and how often the grace windows were wrong. For monitoring, scrape `/metrics`.",
        access=Access.READ,
        answer=Answer(Stats, example=_EXAMPLE, description="Figures of this node."),
    ),
)
