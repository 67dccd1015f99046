"""The promises of the seam towards peers that break rules, do not read, or whose endpoint fails."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from stillhere.transport.message_layer import CONTINUATION, PING, PONG, TEXT
from tests.unit.transport.peers import HIGH, LIMIT, LOW, OpenGate, Party, Recorder, frame, running

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


def test_a_flood_of_frames_leaves_nothing_behind(native: Party) -> None:
    client, endpoint = native.connect()
    with client:
        client.sock.sendall(frame(PONG) * 200000 + frame(TEXT, b"done"))
        while endpoint.next() == ("heard",):
            pass
        assert endpoint.socket._reader is None  # type: ignore[union-attr]


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
