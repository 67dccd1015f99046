"""Delivers for one hook: reads the log, sends, tries again, gives up; remembers how far it came.

An endpoint that is down is probed by one request at a time, after a back-off with full jitter (a time anywhere between
0 and a bound that doubles): its events wait in the log, not here. One that takes everything is sent up to
:data:`CONCURRENT` messages at once, never two of the same user. What a single event runs into holds up that user alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Protocol

from stillhere.core.events import Transition
from stillhere.server.webhooks.lane import Item, Lane
from stillhere.server.webhooks.letters import Letter, Letters
from stillhere.server.webhooks.mark import KeptMark, Mark
from stillhere.server.webhooks.payload import Message
from stillhere.server.webhooks.sender import Answer, NotDelivered
from stillhere.server.webhooks.signature import sign
from stillhere.store.contract import Store, StoreError

_LOG = logging.getLogger("stillhere.webhooks")

CONCURRENT = 8
"""Requests of one hook at the same time."""

WINDOW, LEAST_WINDOW = 256, 16
"""Messages that a hook holds, over all partitions; and at least so many of each."""

BACK_OFF, BACK_OFF_MAX = 1.0, 600.0
"""Seconds: the bound of the first wait, and of all later ones."""

REFUSALS = 5
"""So often must one event have failed, while others were taken and wait behind it, before it is put aside early."""

SAVE_EVERY = 1.0
_LOOK_EVERY = 2.0
_STORE_RETRY = 1.0
_READS = 20
"""Pages of one partition that are read in a row; then it is the others' turn."""


class Result(StrEnum):
    """What became of an attempt, for the metrics."""

    DELIVERED = "delivered"
    FAILED = "failed"
    DEAD = "dead"


class Post(Protocol):
    """What sends; see :class:`stillhere.server.webhooks.sender.Sender`."""

    async def post(self, headers: Mapping[str, str], body: bytes) -> Answer: ...


class Courier:
    """See the module."""

    def __init__(
        self,
        hook: str,
        changes: frozenset[str],
        keys: tuple[bytes, ...],
        post: Post,
        store: Store,
        *,
        node: str,
        give_up: float,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        count: Callable[[str, Result, int], None],
        rng: random.Random,
    ) -> None:
        """Prepare; nothing is read or sent before :meth:`run`.

        Args:
            hook: its id.
            changes: which transitions it wants.
            keys: to sign with.
            post: sends.
            store: whose log.
            node: the name of this one.
            give_up: seconds after which a message that fails becomes a dead letter.
            now: Unix seconds.
            monotonic: seconds that never go back.
            count: told the hook, what became of messages, and of how many.
            rng: for the jitter.
        """
        self.hook = hook
        self.chosen = False
        """Whether this node delivers; set by the office, which then calls :meth:`wake`."""
        self.letters = Letters(store, hook)
        self.mark = Mark([])
        self._changes = changes
        self._keys = keys
        self._post = post
        self._store = store
        self._node = node
        self._give_up = give_up
        self._now = now
        self._monotonic = monotonic
        self._count = count
        self._rng = rng
        self._lanes: list[Lane] = []
        self._flights: set[asyncio.Task[None]] = set()
        self._replay: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._failures = 0
        self._retry_at = self._alone_until = 0.0
        self._taken_at = float("-inf")
        self._saved_at = float("-inf")
        self._looked_at = float("-inf")
        self._kept = KeptMark(store, hook)
        self._replay_name = f"webhook/{hook}/replay"

    # -- for the office -----------------------------------------------------------------------------------------

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    @property
    def lag(self) -> float:
        """For how long the oldest message has waited, in seconds; 0 if none does, or another node delivers."""
        oldest = min((item.at for item in self._oldest()), default=None)
        return 0.0 if oldest is None else max(0.0, self._now() - oldest)

    async def known(self) -> Mark:
        """How the hook is, whoever delivers.

        Raises:
            StoreUnavailable.
        """
        if self._lanes:
            return self._marked()
        return await self._kept.read() or Mark([])

    async def ask_replay(self) -> None:
        """Have whoever delivers send the dead letters again.

        Raises:
            StoreUnavailable.
        """
        await self._store.set_mark(self._replay_name, b"1")
        self._looked_at = float("-inf")
        self.wake()

    async def send(self, message: Message) -> Answer:
        """Send once, now.

        Raises:
            NotDelivered: no answer that counts.
        """
        stamp = int(self._now())
        headers = {
            "webhook-id": message.id,
            "webhook-timestamp": str(stamp),
            "webhook-signature": sign(message.id, stamp, message.body, self._keys),
        }
        return await self._post.post(headers, message.body)

    # -- the loop -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Deliver whenever this node is chosen, for ever."""
        while True:
            if not self.chosen:
                await self._wait(None)
                continue
            try:
                await self._serve()
            except StoreError as error:
                _LOG.warning("webhook %s waits for the store: %s", self.hook, error)
                await asyncio.sleep(_STORE_RETRY)
            except Exception:  # a fault of one hook must not take the others with it
                _LOG.exception("webhook %s failed, and begins anew", self.hook)
                await asyncio.sleep(_STORE_RETRY)

    async def _serve(self) -> None:
        await self._begin()
        try:
            while self.chosen:
                self._wake.clear()
                await self._read()
                await self._bury()
                self._launch()
                await self._look_for_replay()
                await self._save(SAVE_EVERY)
                await self._wait(self._pause())
        finally:
            await self._end()

    async def _begin(self) -> None:
        """Go on where the hook was, on whatever node; begin now if it never was anywhere."""
        partitions = self._store.partitions
        mark = await self._kept.read()
        missed = mark is not None and len(mark.cursors) != partitions
        if mark is None or missed:
            tips = [await self._store.tip(partition) for partition in range(partitions)]
            mark = Mark(tips, dead=0 if mark is None else mark.dead)
        window = max(LEAST_WINDOW, WINDOW // partitions)
        lanes = [Lane(partition, cursor, window) for partition, cursor in enumerate(mark.cursors)]
        if missed:
            lanes[0].gap(mark.cursors[0], self._now())
        self.mark, self._failures, self._retry_at = mark, 0, 0.0
        self._looked_at = self._saved_at = float("-inf")
        # kept before anything is sent: whoever takes over must find a place to begin at
        await self._kept.write(mark)
        self._lanes = lanes

    async def _end(self) -> None:
        """Stop sending. What was in flight may have arrived and is sent again by whoever goes on: at least once."""
        flights = {*self._flights, *([self._replay] if self._replay is not None else [])}
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        self._flights.clear()
        self._replay = None
        try:
            if self.chosen:  # else another node is further already
                async with asyncio.timeout(1.0):
                    await self._save(0.0)
        except (StoreError, TimeoutError):
            pass
        self._lanes = []

    async def _wait(self, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        if not self._lanes:
            self._wake.clear()

    def _pause(self) -> float:
        """Seconds until something is due without news."""
        now = self._monotonic()
        due = [now + SAVE_EVERY]
        due += [at for at in (self._retry_at, self._alone_until) if at > now]
        due += [item.retry_at for item in self._waiting() if item.retry_at > now]
        return max(0.0, min(due) - now)

    # -- reading ------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Fill the windows; of a partition that does not answer later."""
        for lane in self._lanes:
            try:
                await self._read_lane(lane)
            except StoreError as error:
                _LOG.debug("webhook %s cannot read partition %d: %s", self.hook, lane.partition, error)

    async def _read_lane(self, lane: Lane) -> None:
        for _ in range(_READS):
            if not lane.room:
                return
            page = await self._store.read_log(lane.read_at, lane.room, lane.partition)
            if page.gap:  # before this node's start, perhaps; the engine may have it
                page = await self._store.read_back(lane.read_at, lane.room, lane.partition)
            if page.gap:
                _LOG.warning("webhook %s missed changes: the log has no %s any more", self.hook, lane.read_at)
                lane.gap(page.cursor, self._now())
                continue
            if not lane.take(page, self._wants):
                return
            await asyncio.sleep(0)
        self._wake.set()  # there is more

    def _wants(self, entry: Transition) -> bool:
        return entry.change in self._changes

    def _oldest(self) -> Iterator[Item]:
        return (item for lane in self._lanes if (item := lane.oldest) is not None)

    def _waiting(self) -> Iterator[Item]:
        """Every message that was tried and is to be tried again."""
        return (
            item
            for lane in self._lanes
            for item in lane.items
            if item.attempts and not (item.done or item.doomed or item.flying)
        )

    # -- sending ------------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        """Send what may be sent: much while all goes well, one at a time while it does not."""
        now = self._monotonic()
        if max(self._retry_at, self._alone_until) > now:
            return
        most = 1 if self._failures else CONCURRENT
        for lane in self._lanes:
            for item in lane.ready(now):
                if len(self._flights) >= most:
                    return
                item.flying = True
                flight = asyncio.get_running_loop().create_task(self._fly(item))
                self._flights.add(flight)
                flight.add_done_callback(self._landed)

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flights.discard(flight)
        self._wake.set()

    async def _fly(self, item: Item) -> None:
        """One attempt."""
        try:
            answer = await self.send(item.make())
        except NotDelivered as error:
            self._failed(item, str(error), None)
        except Exception as error:  # an event that cannot be sent must not stop those behind it
            _LOG.exception("webhook %s: an event cannot be sent", self.hook)
            self._failed(item, f"it cannot be sent: {error!r}", None)
        else:
            if answer.taken:
                self._taken(item)
            else:
                note = " (redirects are not followed)" if 300 <= answer.status < 400 else ""
                self._failed(item, f"the endpoint answered {answer.status}{note}", answer.retry_after)
        finally:
            item.flying = False

    def _taken(self, item: Item) -> None:
        item.done = True
        if self.mark.failing_since is not None:
            _LOG.info("webhook %s is taken again", self.hook)
        self.mark.failing_since, self.mark.reason = None, ""
        self._failures, self._retry_at = 0, 0.0
        self._taken_at = self._monotonic()
        self._count(self.hook, Result.DELIVERED, 1)
        for lane in self._lanes:
            lane.settle()

    def _failed(self, item: Item, reason: str, leave_alone: float | None) -> None:
        """Try again later.

        Args:
            item: what was not taken.
            reason: why.
            leave_alone: seconds that the endpoint asked for.
        """
        now = self._monotonic()
        if not self._failures and self.mark.failing_since is None:
            _LOG.warning("webhook %s fails: %s", self.hook, reason)
        item.reason, self.mark.reason = reason, reason
        item.failing_since = now if item.failing_since is None else item.failing_since
        item.retry_at = now + self._back_off(item.attempts)
        item.attempts += 1
        if self.mark.failing_since is None:
            self.mark.failing_since = self._now()
        if leave_alone is not None:  # whatever else it takes meanwhile
            self._alone_until = now + min(leave_alone, BACK_OFF_MAX)
        self._retry_at = now + self._back_off(self._failures)
        self._failures += 1
        self._count(self.hook, Result.FAILED, 1)

    def _back_off(self, times: int) -> float:
        """Full jitter: spreads those who come back to an endpoint, and does not herd them."""
        return self._rng.uniform(0.0, min(BACK_OFF_MAX, BACK_OFF * 2.0 ** min(times, 30)))

    # -- giving up ----------------------------------------------------------------------------------------------

    async def _bury(self) -> None:
        """Make dead letters of what failed for too long, and go on behind it only when the store has them."""
        for lane in self._lanes:
            doomed = [item for item in lane.items if not (item.flying or item.done) and self._is_hopeless(item, lane)]
            if not doomed:
                continue
            for item in doomed:
                item.doomed = True
            box = await self.letters.add([self._letter(item) for item in doomed])
            self.mark.dead = len(box.letters)
            for item in doomed:
                item.done = True
            lane.settle()
            self._count(self.hook, Result.DEAD, len(doomed))
            _LOG.warning("webhook %s: %d events were given up: %s", self.hook, len(doomed), doomed[0].reason)

    def _is_hopeless(self, item: Item, lane: Lane) -> bool:
        since, now = self.mark.failing_since, self._now()
        if since is not None and self._failures and now - since >= self._give_up and now - item.at >= self._give_up:
            return True  # the endpoint takes nothing, and this is as old as that
        if item.failing_since is None:
            return False
        if self._monotonic() - item.failing_since >= self._give_up:
            return True
        # a full window behind one event that is refused while others are taken: all would wait for that one
        return not lane.room and item.attempts >= REFUSALS and self._taken_at > item.failing_since

    def _letter(self, item: Item) -> Letter:
        message = item.make()
        reason = item.reason or self.mark.reason
        return Letter(message.id, message.type, message.body, item.at, self._now(), item.attempts, reason)

    # -- replaying ----------------------------------------------------------------------------------------------

    async def _look_for_replay(self) -> None:
        """Whether somebody, on any node, wants the dead letters to be sent again."""
        now = self._monotonic()
        if self._replay is not None or now - self._looked_at < _LOOK_EVERY:
            return
        self._looked_at = now
        if await self._store.get_mark(self._replay_name) is not None:
            self._replay = asyncio.get_running_loop().create_task(self._send_again())

    async def _send_again(self) -> None:
        """Send the letters, oldest first, up to the first that is not taken; then the wish is fulfilled."""
        try:
            for letter in (await self.letters.read()).letters:
                try:
                    answer = await self.send(Message(letter.id, letter.type, letter.body))
                except NotDelivered as error:
                    _LOG.warning("webhook %s: the replay stops: %s", self.hook, error)
                    break
                if not answer.taken:
                    _LOG.warning("webhook %s: the replay stops: the endpoint answered %d", self.hook, answer.status)
                    break
                self._count(self.hook, Result.DELIVERED, 1)
                self.mark.dead = len((await self.letters.remove({letter.id})).letters)
            await self._store.set_mark(self._replay_name, None)
        except StoreError as error:
            _LOG.warning("webhook %s: the replay waits for the store: %s", self.hook, error)
        finally:
            self._replay = None
            self._wake.set()

    # -- remembering --------------------------------------------------------------------------------------------

    def _marked(self) -> Mark:
        """How far it is now."""
        mark = self.mark
        mark.cursors = [lane.done_at for lane in self._lanes]
        mark.oldest_at = min((item.at for item in self._oldest()), default=None)
        mark.node = self._node
        return mark

    async def _save(self, every: float) -> None:
        """Keep the mark, at most once in so many seconds."""
        if not self._lanes or self._monotonic() - self._saved_at < every:
            return
        await self._kept.write(self._marked())
        self._saved_at = self._monotonic()
