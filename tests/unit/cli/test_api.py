"""The commands' calls: bounded, without redirects, and with a sentence for whatever goes wrong."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator

import pytest

from stillhere.cli.api import Answered, Api, NoAnswer, Unauthorized, segment
from stillhere.cli.failure import Failure
from stillhere.cli.who import online


class Handler(http.server.BaseHTTPRequestHandler):
    """A server whose answers are in its path; it writes down what it was sent."""

    seen: list[tuple[str, dict[str, str]]]
    dev = False

    def do_GET(self) -> None:
        self.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        if self.path == "/redirect":
            self.answer(302, b"", Location="http://127.0.0.1:1/elsewhere")
        elif self.path == "/text":
            self.answer(200, b"<html>")
        elif self.path == "/problem":
            self.answer(409, b'{"title":"Conflict","detail":"two\\u001b[2J at once"}')
        elif self.path == "/endless":
            self.answer(200, b"1" * 100)
        elif self.path == "/cut":
            self.answer(200, b"1" * 10, **{"Content-Length": "20"})
        elif self.path.startswith("/v1/users?"):
            last = "cursor=c2" in self.path or "status=online" not in self.path
            page = {"users": [{"user": f"u{len(self.seen)}"}], "cursor": None if last else "c2"}
            self.answer(200, json.dumps(page).encode())
        elif self.path == "/closed" and self.headers.get("Authorization") != "Bearer good":
            self.answer(401, b'{"detail":"no"}')
        else:
            self.answer(200, b'{"ok":true}')

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, {}))
        if self.path == "/dev/token" and not self.dev:
            self.answer(404, b"{}")
        else:
            self.answer(200, b'{"token":"good"}')

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[tuple[str, type[Handler]]]:
    kind = type("OneHandler", (Handler,), {"seen": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}", kind
        running.shutdown()
        thread.join()


def test_credentials_go_where_they_belong(server: tuple[str, type[Handler]]) -> None:
    url, handler = server
    Api(url, api_key="k", token="t").get("/x")
    ((_, headers),) = handler.seen
    assert (headers["x-api-key"], headers["authorization"]) == ("k", "Bearer t")


def test_a_redirect_is_not_followed(server: tuple[str, type[Handler]]) -> None:
    url, handler = server
    with pytest.raises(Answered, match=r"redirects to http://127\.0\.0\.1:1/elsewhere"):
        Api(url, api_key="k").get("/redirect")
    assert len(handler.seen) == 1


def test_a_problem_is_told_in_the_servers_words_and_harmlessly(
    server: tuple[str, type[Handler]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Answered) as caught:
        Api(server[0], api_key="k").get("/problem")
    caught.value.show()
    assert caught.value.http_status == 409
    assert capsys.readouterr().err.endswith("answered 409 Conflict: two\\x1b[2J at once\n")


@pytest.mark.parametrize(
    ("path", "complaint"),
    [("/text", "no Stillhere server"), ("/endless", "longer than 50"), ("/cut", "broke off|no server")],
)
def test_an_answer_that_is_none_is_told(
    server: tuple[str, type[Handler]], monkeypatch: pytest.MonkeyPatch, path: str, complaint: str
) -> None:
    monkeypatch.setattr("stillhere.cli.api.ANSWER_BYTES", 50)
    with pytest.raises(Failure, match=complaint):
        Api(server[0], api_key="k").get(path)


def test_without_credentials_a_development_server_on_this_machine_is_asked_for_a_token(
    server: tuple[str, type[Handler]],
) -> None:
    url, handler = server
    handler.dev = True
    api = Api(url)
    assert api.get("/closed") == {"ok": True}
    assert api.get("/closed") == {"ok": True}
    assert [path for path, _ in handler.seen] == ["/dev/token", "/closed", "/closed"]


def test_a_token_that_has_ended_is_asked_for_anew(server: tuple[str, type[Handler]]) -> None:
    url, handler = server
    handler.dev = True
    api = Api(url)
    api.get("/closed")
    api._headers["Authorization"] = "Bearer old"
    assert api.get("/closed") == {"ok": True}


def test_any_other_server_wants_credentials(server: tuple[str, type[Handler]]) -> None:
    with pytest.raises(Unauthorized, match="wants credentials: no; give --api-key"):
        Api(server[0]).get("/closed")
    with pytest.raises(Unauthorized, match="refuses these credentials"):
        Api(server[0], api_key="k").get("/closed")


def test_nobody_else_is_asked_for_a_development_token() -> None:
    """A secret-less call to a server elsewhere must not look like a log-in there."""
    assert not Api("http://192.0.2.1:7400").loopback
    assert Api("http://localhost:7400").loopback and Api("http://[::1]:7400").loopback


def test_where_nothing_listens_a_sentence_says_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}"
    with pytest.raises(NoAnswer, match=rf"no server answers at {url} .*stillhere dev"):
        Api(url).get("/x")


@pytest.mark.parametrize(
    "url", ["127.0.0.1:7400", "ftp://x", "http://", "http://u:pw@h", "http://h?q", "http://h:99999", "http://[", ""]
)
def test_an_address_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(Failure) as caught:
        Api(url)
    assert caught.value.exit_code == 2 and "pw" not in str(caught.value)


@pytest.mark.parametrize("key", ["a\r\nX-Evil: 1", "ключ", "a b"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(Failure) as caught:
        Api("http://127.0.0.1", api_key=key)
    assert key not in str(caught.value)


def test_an_id_is_one_segment_of_a_path() -> None:
    assert segment("a/../b?c#d é") == "a%2F..%2Fb%3Fc%23d%20%C3%A9"


def test_pages_of_users_are_read_to_the_end_and_not_beyond_the_limit(server: tuple[str, type[Handler]]) -> None:
    users, complete, more = online(Api(server[0], api_key="k"), limit=10)
    assert (len(users), complete, more) == (4, True, False)
    users, complete, more = online(Api(server[0], api_key="k"), limit=2)
    assert (len(users), complete, more) == (2, True, True)
