"""The promises of the seam, on both transports and both event loops where they can be the same: messages and ends."""

from __future__ import annotations

import socket
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillhere.transport.message_layer import BINARY, CONTINUATION, PING, PONG, TEXT
from tests.unit.transport.peers import HIGH, LIMIT, Party, frame

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


def test_a_binary_message_passes_in_both_directions(party: Party) -> None:
    client, endpoint = party.connect()
    with client:
        client.send(BINARY, b"\xff\x00\xff")
        endpoint.expect(("binary", b"\xff\x00\xff"))
        party.tell(endpoint, "send_binary", b"\x00\xfe")
        assert client.receive() == (BINARY, b"\x00\xfe")


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


def test_pings_and_pongs_of_the_peer_are_heard(native: Party) -> None:
    client, endpoint = native.connect()
    with client:
        client.send(PING)
        client.send(PONG)
        endpoint.expect(("heard",), ("heard",))


def test_an_endpoint_can_ping(native: Party) -> None:
    client, endpoint = native.connect()
    with client:
        assert native.tell(endpoint, "ping") is True
        assert client.receive() == (PING, b"")


def test_over_asgi_there_are_no_pings_to_send(party: Party) -> None:
    client, endpoint = party.connect()
    with client:
        assert party.tell(endpoint, "ping") is (party.websocket == "native")


def test_a_peer_that_pings_and_reads_no_pongs_does_not_fill_the_memory(native: Party) -> None:
    client, endpoint = native.connect(receive_buffer=4096)
    with client:
        payload = frame(PING, b"x" * 125) * 1000
        for _ in range(40):  # 5 MB of pongs
            client.sock.sendall(payload)
        client.text("done")
        while endpoint.next() != ("text", b"done"):
            pass
        assert native.tell(endpoint, "unsent") < HIGH + 1024


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
        if party.websocket == "native":
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


def test_a_peer_that_never_ends_tcp_stays_until_the_abort(native: Party) -> None:
    client, endpoint = native.connect()
    with client:
        client.close_frame(1001)
        assert client.received_close() == 1001
        assert client.at_end()
        endpoint.expect(("close_frame", 1001, ""))
        assert endpoint.silent(0.5)
        native.tell(endpoint, "abort")
        endpoint.expect(("lost", None))


def test_a_peer_that_ends_its_half_after_its_close_frame_is_lost_at_once(native: Party) -> None:
    client, endpoint = native.connect()
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


def test_a_peer_that_talks_on_after_a_close_of_ours_is_cut_off(native: Party) -> None:
    client, endpoint = native.connect()
    with client:
        native.tell(endpoint, "close", 4004)
        with pytest.raises(ConnectionError):  # noqa: PT012 - which of the sends fails is the kernel's choice
            for _ in range(10000):
                client.send(TEXT, b"x" * 30000)
        assert endpoint.next()[0] == "lost"


def test_a_peer_that_talks_on_after_both_close_frames_is_cut_off(native: Party) -> None:
    client, endpoint = native.connect()
    with client:
        client.close_frame()
        endpoint.expect(("close_frame", 1000, ""))
        with pytest.raises(ConnectionError):  # noqa: PT012 - as above
            for _ in range(10000):
                client.send(TEXT, b"x" * 30000)
        assert endpoint.next()[0] == "lost"
