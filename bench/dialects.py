"""What is said on the wire to the servers that are measured: one class per protocol.

Stillhere's own is spoken to `ws`, `bun` and Channels too, whose servers were written here; Socket.IO and XMPP are as
their specifications say. A dialect has no state: what differs from client to client comes as arguments.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

Step = tuple[str, bytes]
"""A text to send, or none, and what stands in the text that answers it."""


def mint(secret: str, user: str, expires_at: float) -> str:
    """An HS256 token that allows its user to watch everybody and to enter every room."""
    claims = {"sub": user, "exp": int(expires_at), "watch": "*", "rooms": "*"}
    signed = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(claims)}"
    digest = hmac.digest(secret.encode(), signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def _part(value: object) -> str:
    text = json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def browser_head(port: int, target: str, protocols: str | None) -> bytes:
    """An upgrade as a browser would send it, the cookies left out.

    Args:
        port: of the server.
        target: path and query.
        protocols: offered in ``Sec-WebSocket-Protocol``; None offers none.
    """
    offer = f"Sec-WebSocket-Protocol: {protocols}\r\n" if protocols else ""
    return (
        f"GET {target} HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{port}\r\n"
        "Connection: Upgrade\r\n"
        "Pragma: no-cache\r\n"
        "Cache-Control: no-cache\r\n"
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 "
        "Safari/537.36\r\n"
        "Upgrade: websocket\r\n"
        f"Origin: http://127.0.0.1:{port}\r\n"
        "Sec-WebSocket-Version: 13\r\n"
        "Accept-Encoding: gzip, deflate, br, zstd\r\n"
        "Accept-Language: en-GB,en;q=0.9\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"{offer}\r\n"
    ).encode()


def upgrade_head(port: int, user: str, token: str) -> bytes:
    """The upgrade for Stillhere."""
    return browser_head(port, f"/ws?tab=tab-{user}", f"stillhere.v1, bearer.{token}")


def users_in(frames: Sequence[bytes]) -> set[str]:
    """Who is in a room, according to what one of its members was told in Stillhere's protocol."""
    there: set[str] = set()
    for text in frames:
        _note(there, json.loads(text))
    return there


def _note(there: set[str], message: Mapping[str, object]) -> None:
    if message["type"] != "room":
        return

    def users(key: str) -> set[str]:
        members = message.get(key, ())
        assert isinstance(members, Sequence)
        return {member["user"] for member in members}

    there -= users("leaves")
    there |= users("members") | users("joins") | users("updates")


class Dialect:
    """Stillhere's protocol; others override what they say differently."""

    look = 200
    """How far into a text an answer may be recognised, in bytes."""
    heeds = False
    """Whether every text must be read, because some ask for a reply."""
    answers = 1
    """Texts that a request is answered with, beside those that members and watchers get."""

    def token(self, secret: str, user: str, expires_at: float) -> str:
        """What a user shows to be let in."""
        return mint(secret, user, expires_at)

    def head(self, port: int, user: str, token: str) -> bytes:
        """Of the upgrade request."""
        return upgrade_head(port, user, token)

    def greeting(self, user: str, token: str) -> Sequence[Step]:
        """What is said after the upgrade until the server knows the user and has said so."""
        return [("", b"welcome")]

    def join(self, id: int, user: str, room: str) -> str:
        """A request to enter a room."""
        return f'{{"type":"join","id":{id},"room":"{room}"}}'

    def watch(self, id: int, user: str, whom: str) -> str:
        """A request to be told of a user."""
        return f'{{"type":"watch","id":{id},"users":["{whom}"]}}'

    def state(self, id: int, user: str, room: str, availability: str) -> str:
        """A change of one's own state: ``active`` or ``busy``.

        Args:
            id: of the request.
            user: who changes.
            room: the one that was joined last, or nothing.
            availability: the new one.
        """
        return f'{{"type":"state","id":{id},"availability":"{availability}"}}'

    def answer(self, id: int) -> bytes:
        """What stands in the answer to a request, and in no other text."""
        return b'"id":%d' % id

    def reply(self, text: bytes) -> str | None:
        """What must be said when the server says this; such a text is no delivery.

        Raises:
            ConnectionError: the text is a refusal.
        """
        return None

    def users_in(self, frames: Sequence[bytes]) -> set[str]:
        """Who is in a room, according to what one of its members was told."""
        return users_in(frames)


class SocketIo(Dialect):
    """Socket.IO 5 on Engine.IO 4, over WebSocket from the start, the token in the connect packet.

    A text begins with its types: ``0`` open, ``2`` ping, ``3`` pong, ``40`` connect, ``42`` event, ``43``
    acknowledgement, ``44`` refusal. Digits after ``42`` and ``43`` are the number of the acknowledgement.
    """

    heeds = True

    def head(self, port: int, user: str, token: str) -> bytes:
        """Without a polling phase before it."""
        return browser_head(port, "/socket.io/?EIO=4&transport=websocket", None)

    def greeting(self, user: str, token: str) -> Sequence[Step]:
        """Wait for the transport, then connect the namespace."""
        return [("", b"0{"), (f'40{{"token":"{token}"}}', b"40{")]

    def join(self, id: int, user: str, room: str) -> str:
        """An event that asks for an acknowledgement."""
        return f'42{id}["join","{room}"]'

    def watch(self, id: int, user: str, whom: str) -> str:
        """An event that asks for an acknowledgement."""
        return f'42{id}["watch",["{whom}"]]'

    def state(self, id: int, user: str, room: str, availability: str) -> str:
        """An event that asks for an acknowledgement."""
        return f'42{id}["state","{availability}"]'

    def answer(self, id: int) -> bytes:
        """The acknowledgement."""
        return b"43%d[" % id

    def reply(self, text: bytes) -> str | None:
        """A pong for a ping."""
        if text == b"2":
            return "3"
        if text.startswith(b"44"):
            raise ConnectionError(text.decode(errors="replace"))
        return None

    def users_in(self, frames: Sequence[bytes]) -> set[str]:
        """From events and acknowledgements, whose last argument is a message like Stillhere's."""
        there: set[str] = set()
        for text in frames:
            if text[:2] in (b"42", b"43"):
                _note(there, json.loads(text[text.index(b"[") :])[-1])
        return there


class Xmpp(Dialect):
    """XMPP over WebSocket (RFC 7395), rooms by XEP-0045; the nick is the user, and one stanza is one text.

    A member's own change comes back to him, marked with status 110: that is a delivery and the answer in one.
    """

    look = 2000
    answers = 0
    host = "localhost"
    rooms = "rooms.localhost"

    _FRAMING = "urn:ietf:params:xml:ns:xmpp-framing"

    def head(self, port: int, user: str, token: str) -> bytes:
        """With the subprotocol that the RFC asks for."""
        return browser_head(port, "/xmpp-websocket", "xmpp")

    def greeting(self, user: str, token: str) -> Sequence[Step]:
        """Stream, SASL, stream, resource, first presence: what every client does before it is online."""
        opening = f'<open xmlns="{self._FRAMING}" to="{self.host}" version="1.0"/>'
        bind = '<bind xmlns="urn:ietf:params:xml:ns:xmpp-bind"><resource>tab</resource></bind>'
        return [
            (opening, b"mechanisms"),
            (self._login(user, token), b"<success"),
            (opening, b"xmpp-bind"),
            (f'<iq xmlns="jabber:client" type="set" id="bind">{bind}</iq>', b"<jid>"),
            ('<presence xmlns="jabber:client"/>', b"<presence"),
        ]

    def _login(self, user: str, token: str) -> str:
        return '<auth xmlns="urn:ietf:params:xml:ns:xmpp-sasl" mechanism="ANONYMOUS"/>'

    def _occupant(self, user: str, room: str) -> str:
        """An address in a room, whose name may not hold spaces."""
        return f"{room.replace(' ', '-')}@{self.rooms}/{user}"

    def join(self, id: int, user: str, room: str) -> str:
        """XEP-0045, section 7.2."""
        to = self._occupant(user, room)
        return f'<presence xmlns="jabber:client" to="{to}"><x xmlns="http://jabber.org/protocol/muc"/></presence>'

    def watch(self, id: int, user: str, whom: str) -> str:
        """Nobody without an account has a roster.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"{user} cannot watch {whom}: subscriptions need accounts with rosters, which there are none of"
        )

    def state(self, id: int, user: str, room: str, availability: str) -> str:
        """XEP-0045, section 7.7."""
        show = "<show>dnd</show>" if availability == "busy" else ""
        return f'<presence xmlns="jabber:client" to="{self._occupant(user, room)}">{show}</presence>'

    def answer(self, id: int) -> bytes:
        """One's own presence in the room."""
        return b"code='110'"

    def reply(self, text: bytes) -> str | None:
        """Nothing; a failure or an error is a refusal."""
        if text.startswith((b"<failure", b"<close", b"<stream:error")) or b"type='error'" in text[: self.look]:
            raise ConnectionError(text.decode(errors="replace"))
        return None

    def users_in(self, frames: Sequence[bytes]) -> set[str]:
        """From the presence of occupants."""
        there: set[str] = set()
        for text in frames:
            if not text.startswith(b"<presence"):
                continue
            stanza = ElementTree.fromstring(text)
            address, _, nick = stanza.get("from", "").partition("/")
            if not nick or not address.endswith(f"@{self.rooms}"):
                continue  # a room may have a presence of its own
            if stanza.get("type") == "unavailable":
                there.discard(nick)
            else:
                there.add(nick)
        return there


class XmppJwt(Xmpp):
    """The same where the server takes a token for a password: SASL PLAIN, the subject is the user's address."""

    def token(self, secret: str, user: str, expires_at: float) -> str:
        """With the whole address, which ejabberd compares."""
        return mint(secret, f"{user}@{self.host}", expires_at)

    def _login(self, user: str, token: str) -> str:
        secret = base64.b64encode(f"\0{user}\0{token}".encode()).decode()
        return f'<auth xmlns="urn:ietf:params:xml:ns:xmpp-sasl" mechanism="PLAIN">{secret}</auth>'


STILLHERE = Dialect()
SOCKET_IO = SocketIo()
XMPP = Xmpp()
XMPP_JWT = XmppJwt()
