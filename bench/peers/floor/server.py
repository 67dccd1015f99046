"""The send floor: what ``socket.send`` costs, called in a loop over raw sockets.

It greets and answers just enough for the load generator, knows nobody, and writes one ready frame to every socket
for each ``state`` message. What a server spends above this is its own; the rest is the kernel's. With the library that
``send.c`` makes, the loop is in C.

    python server.py PORT BYTES [LIBRARY]
"""

from __future__ import annotations

import base64
import ctypes
import hashlib
import select
import socket
import sys
from collections.abc import Callable, Collection

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(payload: bytes) -> bytes:
    """A text frame of a server, of less than 64 KiB."""
    size = len(payload)
    head = bytes((0x81, size)) if size < 126 else bytes((0x81, 126)) + size.to_bytes(2, "big")
    return head + payload


def accepted(head: bytes) -> bytes:
    """The 101 for the head of a request."""
    key = head.partition(b"Sec-WebSocket-Key:")[2].partition(b"\r\n")[0].strip()
    answer = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Protocol: stillhere.v1\r\nSec-WebSocket-Accept: " + answer + b"\r\n\r\n"
    )


Broadcast = Callable[[Collection[socket.socket], bytes], None]


def in_python(receivers: Collection[socket.socket], data: bytes) -> None:
    """Send to all."""
    for receiver in receivers:
        receiver.send(data)


def in_c(library: str) -> Broadcast:
    """The same by ``send.c``.

    Args:
        library: what the compiler made of it.
    """
    send = ctypes.CDLL(library).broadcast
    send.argtypes = [ctypes.POINTER(ctypes.c_int), ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]

    def broadcast(receivers: Collection[socket.socket], data: bytes) -> None:
        count = len(receivers)
        sockets = (ctypes.c_int * count)(*(receiver.fileno() for receiver in receivers))
        if (done := send(sockets, count, data, len(data))) != count:
            raise SystemExit(f"{count - done} of {count} sockets did not take the frame")

    return broadcast


def serve(port: int, size: int, send: Broadcast) -> None:
    """Serve until killed."""
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    fresh: dict[int, socket.socket] = {}
    ready: dict[int, socket.socket] = {}
    broadcast = frame(b'{"type":"room"'.ljust(size - 1) + b"}")
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                client, _ = listener.accept()
                client.setblocking(False)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                fresh[client.fileno()] = client
                poll.register(client, select.EPOLLIN)
                continue
            client = fresh.pop(fd) if fd in fresh else ready.pop(fd)
            # The generator masks with zeros, so that what it says can be read as it stands.
            request = client.recv(65536)
            if not request:
                poll.unregister(fd)
                client.close()
                continue
            ready[fd] = client
            if request.startswith(b"GET "):
                client.send(accepted(request) + frame(b'{"type":"welcome"}'))
                continue
            id = request.partition(b'"id":')[2].partition(b",")[0].rstrip(b"}")
            if b'"type":"state"' in request:
                send(ready.values(), broadcast)
            client.send(frame(b'{"type":"ok","id":' + id + b"}"))


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), in_c(sys.argv[3]) if len(sys.argv) > 3 else in_python)
