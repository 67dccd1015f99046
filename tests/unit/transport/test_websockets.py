"""The promises of the seam, on both transports and both event loops where they can be the same."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from picows.picows import WSProtocol  # type: ignore[attr-defined]

from stillhere.transport.message_layer import BINARY, CONTINUATION, PING, PONG, TEXT
from stillhere.transport.picows import READ_CHUNK
from tests.unit.transport.peers import OpenGate, RawClient, Recorder, Running, frame, running

LIMIT = 32768
HIGH = 100000
LOW = 20000
PARTIES = [("picows", "uvloop"), ("picows", "asyncio"), ("asgi", "uvloop")]


class Party:
    """A server with an open gate."""

    def __init__(self, websocket: str, gate: OpenGate, server: Running) -> None:
        self.websocket = websocket
        self.gate = gate
        self.server = server

    def connect(self, receive_buffer: int | None = None) -> tuple[RawClient, Recorder]:
        """A client, and its endpoint after ``on_open``."""
        client = RawClient(self.server.port, receive_buffer).open()
        endpoint = self.gate.endpoint()
        endpoint.expect(("open",))
        return client, endpoint

    def tell(self, endpoint: Recorder, call: str, *args: Any) -> Any:
        """Call the endpoint's socket, on the event loop."""
        return self.server.call(getattr(endpoint.socket, call), *args)

    def clog(self, endpoint: Recorder, message: bytes, unsent: int) -> int:
        """Send to a peer that does not read until this much is unsent; give how often."""
        for sent in range(2000):
            if self.tell(endpoint, "unsent") >= unsent:
                return sent
            self.tell(endpoint, "send", message)
        raise AssertionError("the peer takes everything")


@pytest.fixture(scope="module", params=PARTIES, ids="-".join)
def party(request: pytest.FixtureRequest) -> Iterator[Party]:
    websocket, loop = request.param
    gate = OpenGate()
    with running(gate, websocket, loop, max_message_bytes=LIMIT, high_water=HIGH, low_water=LOW) as server:
        yield Party(websocket, gate, server)


@pytest.fixture(scope="module", params=PARTIES[:2], ids="-".join)
def picows(request: pytest.FixtureRequest) -> Iterator[Party]:
    websocket, loop = request.param
    gate = OpenGate()
    with running(gate, websocket, loop, max_message_bytes=LIMIT, high_water=HIGH, low_water=LOW) as server:
        yield Party(websocket, gate, server)


# Messages


def test_text_goes_both_ways(party: Party) -> None:
    client, endpoint = party.connect()
    with client:
        client.text("héllo")
        endpoint.expect(("text", "héllo".encode()))
        party.tell(endpoint, "send", "wörld".encode())
        assert client.receive() == (TEXT, "wörld".encode())


@pytest.mark.parametrize("size", [0, 125, 126, 8192, 8193, 70000])
def test_a_message_of_any_size_is_sent_whole_and_in_order(party: Party, size: int) -> None:
    client, endpoint = party.connect()
    with client:
        for _ in range(3):
            party.tell(endpoint, "send", b"x" * size)
            party.tell(endpoint, "send", b"y")
        for _ in range(3):
            assert client.receive() == (TEXT, b"x" * size)
            assert client.receive() == (TEXT, b"y")


def test_a_binary_message_is_told_by_its_size(party: Party) -> None:
    client, endpoint = party.connect()
    with client:
        client.send(BINARY, b"\xff\x00\xff")
        endpoint.expect(("binary", 3))


def test_one_byte_at_a_time_is_a_message_too(party: Party) -> None:
    client, endpoint = party.connect()
    with client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in frame(TEXT, b"slow"):
            client.sock.send(bytes([byte]))
        endpoint.expect(("text", b"slow"))


def test_frames_of_one_byte_make_a_message(party: Party) -> None:
    client, endpoint = party.connect()
    with client:
        content = "1-byte frames é".encode()
        last = len(content) - 1
        for i in range(len(content)):
            client.send(TEXT if i == 0 else CONTINUATION, content[i : i + 1], fin=i == last)
        endpoint.expect(("text", content))


def test_a_message_of_exactly_the_bound_is_taken(party: Party) -> None:
    client, endpoint = party.connect()
    with client:
        client.send(TEXT, b"x" * LIMIT)
        endpoint.expect(("text", b"x" * LIMIT))


@given(
    text=st.text(max_size=60),
    cuts=st.lists(st.integers(0, 240), max_size=8),
    chunks=st.lists(st.integers(1, 40), max_size=12),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_however_a_message_is_cut_into_frames_and_segments_it_arrives_whole(
    party: Party, text: str, cuts: list[int], chunks: list[int]
) -> None:
    content = text.encode()
    edges = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    pieces = [content[a:b] for a, b in pairwise(edges)]
    raw = b"".join(
        frame(TEXT if i == 0 else CONTINUATION, piece, fin=i == len(pieces) - 1) for i, piece in enumerate(pieces)
    )
    client, endpoint = party.connect()
    with client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for size in chunks:
            client.sock.sendall(raw[:size])
            raw = raw[size:]
        client.sock.sendall(raw)
        endpoint.expect(("text", content))


# Pings


def test_a_ping_is_answered_with_its_payload(party: Party) -> None:
    client, _ = party.connect()
    with client:
        client.send(PING, b"are you there")
        assert client.receive() == (PONG, b"are you there")


def test_pings_and_pongs_of_the_peer_are_heard(picows: Party) -> None:
    client, endpoint = picows.connect()
    with client:
        client.send(PING)
        client.send(PONG)
        endpoint.expect(("heard",), ("heard",))


def test_an_endpoint_can_ping(picows: Party) -> None:
    client, endpoint = picows.connect()
    with client:
        assert picows.tell(endpoint, "ping") is True
        assert client.receive() == (PING, b"")


def test_over_asgi_there_are_no_pings_to_send(party: Party) -> None:
    client, endpoint = party.connect()
    with client:
        assert party.tell(endpoint, "ping") is (party.websocket == "picows")


def test_a_peer_that_pings_and_reads_no_pongs_does_not_fill_the_memory(picows: Party) -> None:
    client, endpoint = picows.connect(receive_buffer=4096)
    with client:
        payload = frame(PING, b"x" * 125) * 1000
        for _ in range(40):  # 5 MB of pongs
            client.sock.sendall(payload)
        client.text("done")
        while endpoint.next() != ("text", b"done"):
            pass
        assert picows.tell(endpoint, "unsent") < HIGH + 1024


# Ends


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, ""), (3000, "bye"), (4900, "")])
def test_the_peers_close_frame_is_told_and_answered(party: Party, code: int, reason: str) -> None:
    client, endpoint = party.connect()
    with client:
        client.close_frame(code, reason)
        assert client.received_close() == code
        assert client.at_end()
        endpoint.expect(("close_frame", code, reason))
    endpoint.expect(("lost", None))
    assert endpoint.silent()


def test_an_empty_close_frame_is_1005_and_gets_an_answer(party: Party) -> None:
    client, endpoint = party.connect()
    with client:
        client.send(8)
        opcode, payload = client.receive()
        assert (opcode, payload) in ((8, b""), (8, b"\x03\xe8"))
        endpoint.expect(("close_frame", 1005, ""))
    endpoint.expect(("lost", None))


def test_a_close_of_ours_waits_for_the_peers_and_for_the_end_of_tcp(party: Party) -> None:
    client, endpoint = party.connect()
    with client:
        party.tell(endpoint, "close", 4001, "expired")
        party.tell(endpoint, "close", 4004, "a second close does nothing")
        assert client.receive() == (8, b"\x0f\xa1expired")
        assert endpoint.silent()
        client.close_frame(4001)
        if party.websocket == "picows":
            endpoint.expect(("close_frame", 4001, ""))
            assert endpoint.silent()
        assert client.at_end()
    endpoint.expect(("lost", None))


def test_a_peer_that_never_answers_a_close_stays_until_the_abort(party: Party) -> None:
    client, endpoint = party.connect()
    with client:
        party.tell(endpoint, "close", 4001)
        assert client.received_close() == 4001
        assert endpoint.silent(0.5)
        party.tell(endpoint, "abort")
        endpoint.expect(("lost", None))
        assert client.at_end()


def test_a_peer_that_never_ends_tcp_stays_until_the_abort(picows: Party) -> None:
    client, endpoint = picows.connect()
    with client:
        client.close_frame(1001)
        assert client.received_close() == 1001
        assert client.at_end()
        endpoint.expect(("close_frame", 1001, ""))
        assert endpoint.silent(0.5)
        picows.tell(endpoint, "abort")
        endpoint.expect(("lost", None))


def test_a_peer_that_ends_its_half_after_its_close_frame_is_lost_at_once(picows: Party) -> None:
    client, endpoint = picows.connect()
    with client:
        client.close_frame(1001)
        client.sock.shutdown(socket.SHUT_WR)
        endpoint.expect(("close_frame", 1001, ""), ("lost", None))
        assert client.received_close() == 1001  # it still reads
        assert client.at_end()


def test_a_fin_without_a_close_frame_is_an_end_without_an_error(party: Party) -> None:
    client, endpoint = party.connect()
    client.sock.close()
    endpoint.expect(("lost", None))


def test_a_half_closed_peer_is_gone_even_if_it_left_things_unread(party: Party) -> None:
    client, endpoint = party.connect(receive_buffer=4096)
    with client:
        party.clog(endpoint, b"x" * 60000, 120000)
        client.sock.shutdown(socket.SHUT_WR)
        events = [endpoint.next()]
        while events[-1][0] != "lost":
            events.append(endpoint.next())
        assert {event[0] for event in events} <= {"lost", "full", "writable"}


def test_a_reset_is_told_with_its_error(party: Party) -> None:
    client, endpoint = party.connect()
    client.reset()
    kind, error = endpoint.next()
    assert kind == "lost"
    assert isinstance(error, ConnectionResetError)


def test_an_abort_ends_at_once_and_silences_the_socket(party: Party) -> None:
    client, endpoint = party.connect()
    with client:
        party.tell(endpoint, "abort")
        for call, *args in (("send", b"x"), ("close", 1000), ("abort",), ("ping",), ("unsent",)):
            party.tell(endpoint, call, *args)
        endpoint.expect(("lost", None))
        for call, *args in (("send", b"x"), ("close", 1000), ("abort",), ("ping",), ("unsent",)):
            party.tell(endpoint, call, *args)
        assert client.at_end()
        assert endpoint.silent()


def test_nothing_is_told_after_a_close_frame_of_the_peer(party: Party) -> None:
    client, endpoint = party.connect()
    with client:
        client.sock.sendall(frame(8, b"\x03\xe8") + frame(TEXT, b"late") + frame(PING) + frame(PONG))
        endpoint.expect(("close_frame", 1000, ""))
        assert client.received_close() == 1000
        assert client.at_end()
    endpoint.expect(("lost", None))


def test_messages_after_a_close_of_ours_are_dropped(party: Party) -> None:
    client, endpoint = party.connect()
    with client:
        party.tell(endpoint, "close", 4004)
        client.text("too late")
        assert endpoint.silent()


def test_a_peer_that_talks_on_after_a_close_of_ours_is_cut_off(picows: Party) -> None:
    client, endpoint = picows.connect()
    with client:
        picows.tell(endpoint, "close", 4004)
        with pytest.raises(ConnectionError):  # noqa: PT012 - which of the sends fails is the kernel's choice
            for _ in range(10000):
                client.send(TEXT, b"x" * 30000)
        assert endpoint.next()[0] == "lost"


def test_a_peer_that_talks_on_after_both_close_frames_is_cut_off(picows: Party) -> None:
    client, endpoint = picows.connect()
    with client:
        client.close_frame()
        endpoint.expect(("close_frame", 1000, ""))
        with pytest.raises(ConnectionError):  # noqa: PT012 - as above
            for _ in range(10000):
                client.send(TEXT, b"x" * 30000)
        assert endpoint.next()[0] == "lost"


# Violations


BROKEN = {
    "reserved bit": (1002, frame(TEXT, b"x", rsv=4)),
    "reserved bit of a control frame": (1002, frame(PING, rsv=1)),
    "unmasked": (1002, frame(TEXT, b"x", mask=False)),
    "unknown opcode": (1002, frame(3, b"x")),
    "unknown control opcode": (1002, frame(11)),
    "fragmented ping": (1002, frame(PING, fin=False)),
    "long ping": (1002, frame(PING, b"x" * 126)),
    "stray continuation": (1002, frame(CONTINUATION, b"x")),
    "message inside a message": (1002, frame(TEXT, b"x", fin=False) + frame(TEXT, b"y")),
    "half a close code": (1002, frame(8, b"\x03")),
    "close code 1006": (1002, frame(8, b"\x03\xee")),
    "close code 0": (1002, frame(8, b"\x00\x00")),
    "close code 2000": (1002, frame(8, b"\x07\xd0")),
    "close code 5000": (1002, frame(8, b"\x13\x88")),
    "bad UTF-8": (1007, frame(TEXT, b"\xc3\x28")),
    "bad UTF-8 in a fragment": (1007, frame(TEXT, b"\xff", fin=False)),
    "bad UTF-8 in a reason": (1007, frame(8, b"\x03\xe8\xff")),
    "oversize": (1009, frame(TEXT, b"x" * (LIMIT + 1))),
    "oversize by its length alone": (1009, b"\x81\xff" + (1 << 40).to_bytes(8) + b"\0\0\0\0"),
    "oversize over fragments": (1009, frame(TEXT, b"x" * LIMIT, fin=False) + frame(CONTINUATION, b"x", fin=False)),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_violation_is_answered_with_its_code_and_told_once(party: Party, case: str) -> None:
    code, raw = BROKEN[case]
    client, endpoint = party.connect()
    with client:
        client.sock.sendall(raw)
        assert client.received_close() == code
        kind, told, reason = endpoint.next()
        assert (kind, told) == ("violation", code)
        assert isinstance(reason, str)
    assert endpoint.next()[0] == "lost"
    assert endpoint.silent()


def test_a_flood_of_empty_fragments_is_cut_off_before_it_costs_anything(party: Party) -> None:
    client, endpoint = party.connect()
    before = resident_bytes()
    with client:
        client.send(TEXT, b"a", fin=False)
        flood = frame(CONTINUATION, fin=False) * 1000
        try:
            for _ in range(200):
                client.sock.sendall(flood)
        except ConnectionError:
            pass
        kind, code, _ = endpoint.next()
        assert (kind, code) == ("violation", 1008)
    assert endpoint.next()[0] == "lost"
    assert resident_bytes() - before < 5 << 20


def test_a_flood_of_frames_leaves_no_large_buffer_behind(picows: Party) -> None:
    client, endpoint = picows.connect()
    with client:
        client.sock.sendall(frame(PONG) * 200000 + frame(TEXT, b"done"))
        while endpoint.next() == ("heard",):
            pass
        protocol = endpoint.socket._protocol  # type: ignore[union-attr]
        assert len(WSProtocol.get_buffer(protocol, -1)) <= 2 * READ_CHUNK


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096


# Backpressure


def test_unsent_bytes_grow_while_the_peer_does_not_read_and_the_marks_are_told(party: Party) -> None:
    marks: list[int] = []

    def note(endpoint: Recorder, event: tuple[Any, ...]) -> None:
        if event[0] in ("full", "writable"):
            assert endpoint.socket is not None
            marks.append(endpoint.socket.unsent())

    party.gate._make = lambda: Recorder(note)
    try:
        client, endpoint = party.connect()
    finally:
        party.gate._make = Recorder
    with client:
        message = b"x" * 30000
        sent = party.clog(endpoint, message, 300000)
        endpoint.expect(("full",))
        assert endpoint.silent()
        for _ in range(sent):
            assert client.receive() == (TEXT, message)
        endpoint.expect(("writable",))
        assert party.tell(endpoint, "unsent") == 0
    full, writable = marks
    assert HIGH < full <= HIGH + len(message) + 10
    assert writable <= LOW


def test_over_asgi_what_nobody_takes_ends_in_an_abort() -> None:
    gate = OpenGate()
    with running(gate, "asgi") as server:
        party = Party("asgi", gate, server)
        client, endpoint = party.connect()
        with client:
            for _ in range(600):
                party.tell(endpoint, "send", b"x" * 60000)
                if endpoint.history[-1][0] == "lost":
                    break
            endpoint.expect(("full",), ("lost", None))


# Failures of an endpoint


def test_an_endpoint_that_fails_costs_its_own_connection_only(party: Party, caplog: pytest.LogCaptureFixture) -> None:
    def fail(endpoint: Recorder, event: tuple[Any, ...]) -> None:
        if event == ("text", b"fail"):
            raise ZeroDivisionError

    party.gate._make = lambda: Recorder(fail)
    try:
        client, endpoint = party.connect()
        other, bystander = party.connect()
    finally:
        party.gate._make = Recorder
    with client, other, caplog.at_level(logging.ERROR):
        client.text("fail")
        assert client.received_close() == 1011
        client.close_frame(1011)
        other.text("still here")
        bystander.expect(("text", b"still here"))
    assert "ZeroDivisionError" in caplog.text
    assert endpoint.next() == ("text", b"fail")


def test_an_endpoint_may_end_its_connection_from_within_any_call(party: Party) -> None:
    for trigger in ("open", "text", "close_frame", "violation"):

        def react(endpoint: Recorder, event: tuple[Any, ...], trigger: str = trigger) -> None:
            if event[0] == trigger:
                assert endpoint.socket is not None
                endpoint.socket.close(4000)
                endpoint.socket.abort()

        party.gate._make = lambda react=react: Recorder(react)  # type: ignore[misc]
        try:
            client, endpoint = party.connect()
        finally:
            party.gate._make = Recorder
        with client:
            try:
                client.text("x")
                client.sock.sendall(frame(TEXT, rsv=1) if trigger == "violation" else frame(8, b"\x03\xe8"))
            except ConnectionError:
                pass
            while endpoint.next()[0] != "lost":
                pass
            assert endpoint.silent()
            assert [event[0] for event in endpoint.history].count("lost") == 1
