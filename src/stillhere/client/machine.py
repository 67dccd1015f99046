"""One client's connection: opened, watched, and opened again when it has ended.

Without input or output: what happens goes in, each with its time, and what is to be done and to be told comes out of
:meth:`Machine.take`; :meth:`Machine.next_deadline` is the only reason to wake it up. Times are seconds of any clock
that only goes forward: the welcome says how the server's clock differs from it.

Every input names the attempt it belongs to; what an old socket or an old request for a token still has to say is
dropped. The rules are those of ``docs/protocol.md``, section 1.4.
"""

from __future__ import annotations

import random as chance
from collections.abc import Callable
from math import inf

from stillhere.client.backoff import STABLE, advice_for, delay
from stillhere.client.errors import (
    ClientError,
    ForbiddenOrigin,
    NoToken,
    NotStillhere,
    Refused,
    TokenFailed,
    Unauthorized,
    Unreachable,
    Unreadable,
    WrongProtocol,
    refusal,
)
from stillhere.client.outputs import Close, NeedToken, Open, Output, Problem, Send, StatusChanged
from stillhere.client.protocol import SUBPROTOCOL, decode, encode, expiry_of, socket_url, with_query
from stillhere.client.talk import Talk
from stillhere.client.views import ConnectionStatus
from stillhere.core.words import Availability
from stillhere.wire.codes import Advice, CloseCode
from stillhere.wire.messages import Auth, Bye, ClientMessage, Error, Moving, Ping, Probe, ServerProbe, WelcomeMessage

ATTEMPT = 15.0
"""How long an attempt may take, the application's ``get_token`` included, in seconds."""

MOVING_PATIENCE = 2.0
"""How long after its own deadline a draining node may still close by itself, which leaves the longer window."""

PONG = 3.0
"""How long an answer to a ``ping`` may take, in seconds."""

SILENCE = 1.6
"""The server is asked for a sign of life after so many of its heartbeat intervals without a message: soon enough that a
client whose path died without a word is back before the window that the server then opens is over."""

RENEW_AT = 0.8
"""A token is replaced when this part of its life is over."""

TELL_EVERY = 4
"""After so many attempts in a row that nobody answered, the application is told."""

ABNORMAL = 1006
REPLACED = 4900
"""With which a dead path is closed: the server opens the window of a page that may be back at once."""

_IN_PASSING = frozenset({408, 425, 500, 502, 504})
"""HTTP statuses that say nothing about the next attempt; 429 and 503 ask for patience."""


class Machine:
    """See the module.

    Attributes:
        status: how the connection stands.
        error: why it is refused, or what the server said last about the token.
        fault: why the last attempt did not succeed; None once one has.
        retry_at: when the next attempt begins, on the clock of ``now``; None while none is planned.
        talk: what is wanted, and what is held of others.
    """

    def __init__(
        self,
        url: str,
        *,
        tab: str,
        availability: Availability = Availability.ACTIVE,
        renewable: bool = True,
        random: Callable[[], float] = chance.random,
    ) -> None:
        """Do nothing yet.

        Args:
            url: of the server (:func:`~stillhere.client.protocol.socket_url`).
            tab: the id of this client instance.
            availability: what it says of itself from the beginning.
            renewable: whether asking for a token again may give another one.
            random: numbers in [0, 1).

        Raises:
            BadAddress: the url is none.
        """
        self.status = ConnectionStatus.OFFLINE
        self.error: ClientError | None = None
        self.fault: ClientError | None = None
        self.retry_at: float | None = None
        self.talk = Talk(tab, availability, random)
        self._url = socket_url(url)
        self._tab = tab
        self._renewable = renewable
        self._random = random
        self._outputs: list[Output] = []
        self._timers: dict[str, float] = {}
        self._wanted = False
        self._linked = False
        self._attempt = 0
        self._failed = 0
        """Attempts that have failed in a row."""
        self._silent = 0
        """Attempts that nobody answered, in a row."""
        self._said = ""
        self._renew = False
        self._renew_at = inf
        self._life = inf
        self._skew = 0.0
        """The server's clock minus ours."""
        self._silence = inf
        self._heard_at = 0.0
        self._asked_at = 0.0
        self._moving_until: float | None = None
        self._patient = False
        """Whether the server asked for this wait: news of the network do not shorten it."""
        self._online_since: float | None = None
        """When the last welcome came; None if none did since ``connect``."""

    # -- what it has to say ---------------------------------------------------------------------------------------

    def take(self) -> list[Output]:
        """What is to be done and told since the last call, in order."""
        outputs, self._outputs = self._outputs, []
        return outputs

    def next_deadline(self) -> float | None:
        """When to call :meth:`handle_timer`, whatever happens until then."""
        first = min(self._timers.values(), default=inf)
        if self.status is ConnectionStatus.ONLINE:
            first = min(first, self._renew_at, self._silent_at(), *self.talk.timers.values())
        return None if first == inf else first

    # -- what the application wants -------------------------------------------------------------------------------

    def connect(self, now: float) -> None:
        """Connect, and stay connected. Nothing if that is so already; begins anew if refused."""
        if self._wanted:
            return
        self._wanted = True
        self.error = self._online_since = self._moving_until = None
        self._failed = self._silent = 0
        self._open(now)

    def disconnect(self, now: float) -> None:
        """Log out: leave at once, without a grace window."""
        self._send(Bye())
        self._stop(ConnectionStatus.OFFLINE, CloseCode.NORMAL, "bye")
        self.talk.logged_out()

    def close(self, now: float) -> None:
        """Go without a word, as a program that ends: the user stays shown for the server's window."""
        self._stop(ConnectionStatus.OFFLINE, 1001, "going away")

    def flush(self, now: float) -> None:
        """Send what the server does not know yet; call it after wishes were noted in ``talk.wants``."""
        self.talk.tidy()
        if self.status is ConnectionStatus.ONLINE:
            for message in self.talk.untold(now):
                self._send(message)

    def set_availability(self, availability: Availability | str) -> None:
        """What this client says of itself from now on.

        Raises:
            ValueError: there is no such word.
        """
        self.talk.wants.availability = Availability(availability)

    def network_changed(self, now: float) -> None:
        """The network has changed or is back: find out whether the path still lives, or try sooner."""
        if self.status is ConnectionStatus.ONLINE:
            self._check(now)
        elif self.retry_at is not None and not self._patient:
            # everybody behind one access point gets the network back at the same moment
            self._wait(min(self.retry_at - now, delay(Advice.SOON, 0, self._random())), now)

    # -- what happens ---------------------------------------------------------------------------------------------

    def token(self, attempt: int, token: str | None, now: float) -> None:
        """The application has given a token, or says that there is none."""
        if attempt != self._attempt:
            return
        if self.status is ConnectionStatus.ONLINE:
            if token:
                self._send(Auth(token, self.talk.next_id()))
                expiry = expiry_of(token)
                self._plan_renewal(self._life if expiry is None else expiry - self._skew - now, now)
        elif not token:
            self._refuse(NoToken("get_token gave no token"), now)
        elif not self._linked:
            self.talk.wants.begin()
            self._renew = True  # until the welcome says that this one was taken
            self._said = ""
            self._linked = True
            url = with_query(self._url, self._tab, self.talk.wants.availability)
            self._outputs.append(Open(attempt, url, token))

    def token_failed(self, attempt: int, cause: Exception, now: float) -> None:
        """The application could not give a token."""
        if attempt != self._attempt:
            return
        error = TokenFailed(f"get_token raised {type(cause).__name__}: {cause}")
        error.__cause__ = cause
        self._outputs.append(Problem(error))
        if self.status is not ConnectionStatus.ONLINE:
            self.fault = error
            self._retry(Advice.SOON, now)

    def opened(self, attempt: int, subprotocol: str | None, now: float) -> None:
        """The upgrade was granted."""
        if attempt == self._attempt and subprotocol != SUBPROTOCOL:
            spoken = f"speaks {subprotocol!r}" if subprotocol else "named no subprotocol"
            self._refuse(WrongProtocol(f"the server {spoken}; this client speaks {SUBPROTOCOL!r}"), now)

    def upgrade_refused(self, attempt: int, status: int, detail: str, retry_after: float | None, now: float) -> None:
        """The upgrade was answered with another HTTP status than 101.

        Args:
            attempt: which.
            status: of the answer.
            detail: what the server said, one sentence.
            retry_after: seconds, where the server gave them.
            now: see the module.
        """
        if attempt != self._attempt:
            return
        said = f"HTTP {status}: {detail}" if detail else f"HTTP {status}"
        self._linked = False
        if status == 401:
            self._ended(CloseCode.UNAUTHORIZED, detail or said, now)
        elif status in (429, 503):
            self.fault = Unreachable(f"the server takes no connection now ({said})")
            self._count_silent()
            # a server that says when is taken at its word, with a jitter on top; one that does not is given time
            self._retry(Advice.BACK_OFF if retry_after is None else Advice.SOON, now, retry_after or 0.0)
        elif status in _IN_PASSING:
            self._ended(ABNORMAL, said, now)
        elif status == 403:
            self._refuse(ForbiddenOrigin(said), now)
        elif status in (400, 421):
            self._refuse(Refused(said), now)
        else:
            self.not_ours(attempt, f"the upgrade was answered with {said}", now)

    def not_ours(self, attempt: int, what: str, now: float) -> None:
        """What answers is no such server: final at first; later it may be a proxy whose server is being replaced."""
        if attempt != self._attempt:
            return
        self._linked = False
        self.fault = NotStillhere(what)
        if self._online_since is None:
            self._refuse(NotStillhere(what), now)
        else:
            self._count_silent()
            self._retry(Advice.BACK_OFF, now)

    def closed(self, attempt: int, code: int, reason: str, now: float) -> None:
        """The socket has ended, or could not be opened: 1006, with the reason."""
        if attempt == self._attempt:
            self._linked = False
            self._ended(code, reason, now)

    def received(self, attempt: int, data: bytes | str, now: float) -> None:
        """The server has sent a message."""
        if attempt != self._attempt:
            return
        self._heard_at = now
        self._timers.pop("pong", None)
        try:
            message = decode(data)
        except Unreadable as error:
            self._outputs.append(Problem(error))
            return
        if isinstance(message, ServerProbe):
            self._send(Probe(message.n))  # first of all: this program is alive
        elif isinstance(message, Moving):
            self._moving(message.reconnect_in_ms / 1000, now)
        if isinstance(message, WelcomeMessage):
            self._welcomed(message, now)
        elif self.status is ConnectionStatus.ONLINE and message is not None:
            self._outputs += self.talk.heed(message, now)
        elif isinstance(message, Error):
            self._said = message.message

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        while self._timers and (name := min(self._timers, key=self._timers.__getitem__)):
            if self._timers[name] > now:
                break
            late = now - self._timers.pop(name)
            self._fire(name, late, now)
        if self.status is ConnectionStatus.ONLINE:
            for message in self.talk.due(now):
                self._send(message)
            if now >= self._silent_at():
                self._check(now)
            if now >= self._renew_at:
                # should this fail: when half of what is left is over, and so on until the token ends
                self._life -= self._life * RENEW_AT
                self._renew_at = now + max(1.0, self._life / 2)
                self._outputs.append(NeedToken(self._attempt, True))

    def _fire(self, name: str, late: float, now: float) -> None:
        if name == "attempt":
            self._ended(ABNORMAL, "no welcome in time", now)
        elif name == "retry":
            self._open(now)
        elif name == "moving":
            self._moving_until = None
            self._open(now)
        elif name == "stable":
            self._failed = 0
        else:  # no pong came
            # if this program stood still meanwhile, the answer may be waiting behind this timer: ask once more
            if late > PONG and self._asked_at >= self._heard_at:
                self._heard_at = now
                self._check(now)
            else:
                self._open(now)

    # -- beginnings and ends --------------------------------------------------------------------------------------

    def _open(self, now: float) -> None:
        """Start an attempt. The old socket is closed first: there are never two of one tab."""
        self._drop(REPLACED, "reconnect")
        self._timers["attempt"] = now + ATTEMPT
        self._outputs.append(NeedToken(self._attempt, self._renew))

    def _ended(self, code: int, reason: str, now: float) -> None:
        """The connection or the attempt has ended, by itself or by the server."""
        online = self.status is ConnectionStatus.ONLINE
        reason = self._said or reason
        way = advice_for(code)
        if code == CloseCode.UNAUTHORIZED and self._renewable and not isinstance(self.error, Unauthorized):
            # the protocol's 4001: stop, or reconnect with a new token; once
            self.error = self.fault = refusal(code, reason)
            self._renew = True
            self._silent += 1
            self._outputs.append(Problem(self.error))
            way = Advice.SOON
        if way is Advice.STOP:
            self._refuse(refusal(code, reason), now)
            return
        if code != CloseCode.UNAUTHORIZED:
            self.fault = Unreachable(f"the connection ended with {code}{f' ({reason})' if reason else ''}")
        if not online and code == ABNORMAL:
            self._count_silent()
        self._retry(way, now)

    def _count_silent(self) -> None:
        self._silent += 1
        if self._silent % TELL_EVERY == 0 and self.fault is not None:
            self._outputs.append(Problem(self.fault))

    def _retry(self, way: Advice, now: float, at_least: float = 0.0) -> None:
        """Wait as the advice asks, then try again. A draining node has dealt out the times by itself."""
        moving, self._moving_until = self._moving_until, None
        wait = at_least + delay(way, self._failed, self._random()) if moving is None else max(0.0, moving - now)
        self._failed += 1
        self._patient = way is not Advice.SOON or at_least > 0 or (moving is not None and moving > now)
        self._wait(wait, now)

    def _wait(self, seconds: float, now: float) -> None:
        self._drop(REPLACED, "reconnect", retry_at=now + seconds)
        self._timers["retry"] = now + seconds

    def _refuse(self, error: Refused, now: float) -> None:
        """Stop: the server will not have us."""
        self._renew = True
        self.error = self.fault = error
        self._stop(ConnectionStatus.REFUSED, CloseCode.NORMAL, error.code)

    def _stop(self, status: ConnectionStatus, code: int, reason: str) -> None:
        """Nobody wants a connection any more."""
        self._wanted = False
        self._drop(code, reason, status)

    def _drop(
        self, code: int, reason: str, status: ConnectionStatus | None = None, retry_at: float | None = None
    ) -> None:
        """Close the socket, if there is one, and forget every timer of it."""
        self._attempt += 1
        self._timers.clear()
        if self._linked:
            self._outputs.append(Close(code, reason))
            self._linked = False
        self.talk.ended()
        back = ConnectionStatus.CONNECTING if self._online_since is None else ConnectionStatus.RECONNECTING
        self.retry_at = retry_at
        self._become(status or back)

    def _become(self, status: ConnectionStatus) -> None:
        if status is not self.status:
            self.status = status
            self._outputs.append(StatusChanged(status, self.error))

    def _welcomed(self, welcome: WelcomeMessage, now: float) -> None:
        self.error = self.fault = None
        self._renew = False
        self._silent = 0
        self._online_since = now
        self._skew = welcome.server_at / 1000 - now
        self._silence = SILENCE * welcome.heartbeat_ms / 1000
        self._plan_renewal(welcome.expires_at / 1000 - self._skew - now, now)
        self._timers.pop("attempt", None)
        self._timers["stable"] = now + STABLE
        self.talk.welcomed(welcome)
        self.status = ConnectionStatus.ONLINE
        self.flush(now)
        self._outputs.append(StatusChanged(self.status, None))

    def _moving(self, seconds: float, now: float) -> None:
        """The node drains. It will close with 1012, whose window is the longest; only if it does not, we close."""
        self._moving_until = now + seconds
        self._timers["moving"] = now + seconds + MOVING_PATIENCE

    def _send(self, message: ClientMessage) -> None:
        """Say it; what is said without a connection is lost."""
        if self._linked:
            self._outputs.append(Send(encode(message)))

    # -- time -----------------------------------------------------------------------------------------------------

    def _silent_at(self) -> float:
        return inf if "pong" in self._timers else self._heard_at + self._silence

    def _check(self, now: float) -> None:
        """Ask the server for a sign of life, and open another connection if none comes."""
        if "pong" not in self._timers:
            self._asked_at = now
            self._send(Ping(self.talk.next_id()))
            self._timers["pong"] = now + PONG

    def _plan_renewal(self, life: float, now: float) -> None:
        self._life = life
        self._renew_at = now + life * RENEW_AT if self._renewable else inf
