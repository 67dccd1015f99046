"""Every example starts with the command at its top, and its users see each other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from tests.acceptance.hosting import ROOT, Host
from tests.acceptance.raw import CLOSE, HandshakeRefused, close_payload

COMMAND = re.compile(r"^uvicorn (examples\.[\w.]+:\w+)$", re.MULTILINE)
PROGRAMS = ("plain_html/app.py", "fastapi_chat/app.py", "django_site/asgi.py", "starlette_app.py")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}


def command(program: str) -> str:
    """What the example says it is started with."""
    found = COMMAND.search((ROOT / "examples" / program).read_text())
    assert found is not None, f"{program} does not say how it is started"
    return found[1]


@pytest.fixture
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    with Host(command(request.param)) as host:
        yield host


def hosted(program: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("host", [program], indirect=True)


def test_every_example_says_how_it_is_started() -> None:
    assert all(command(program).startswith("examples.") for program in PROGRAMS)


@hosted("plain_html/app.py")
def test_plain_html_shows_who_logged_in_and_who_logged_out(host: Host) -> None:
    assert "Who is here?" in host.get("/")[1]
    bob_cookies, alice_cookies = (
        host.cookie("/login", urlencode({"name": n}).encode(), FORM) for n in ("bob", "alice")
    )
    with host.client("/presence/ws", bob_cookies) as bob:
        bob.ask({"type": "watch", "id": 1, "users": ["alice"]}, "snapshot")
        with host.client("/presence/ws", alice_cookies) as alice:
            assert bob.expect("presence")["changes"][0]["status"] == "online"
            cookie = {"Cookie": "; ".join(f"{k}={v}" for k, v in alice_cookies.items())}
            assert host.get("/logout", cookie, b"")[0] == 303
            assert alice.closed().code == 4004
            assert bob.expect("presence")["changes"][0]["status"] == "offline"
    with pytest.raises(HandshakeRefused) as refused:
        host.client("/presence/ws", alice_cookies)
    assert refused.value.status == 401


@hosted("fastapi_chat/app.py")
def test_fastapi_chat_lists_who_is_here_and_a_reload_writes_no_line(host: Host) -> None:
    assert "Chat" in host.get("/")[1]
    bob_cookies, alice_cookies = (
        host.cookie("/login", json.dumps({"name": name}).encode(), JSON) for name in ("bob", "alice")
    )
    with host.client("/presence/ws", bob_cookies) as bob:
        bob.ask({"type": "join", "id": 1, "room": "chat", "meta": {}}, "room")
        alice = host.client("/presence/ws", alice_cookies, tab="t")
        alice.ask({"type": "join", "id": 1, "room": "chat", "meta": {}}, "room")
        assert bob.expect("room")["joins"][0]["user"] == "alice"
        alice.frame(CLOSE, close_payload(1001))
        alice.tcp.close()
        with host.client("/presence/ws", alice_cookies, tab="t") as alice:
            alice.ask({"type": "join", "id": 1, "room": "chat", "meta": {}}, "room")
            assert host.get("/online")[1] == {"members": {"alice": "online", "bob": "online"}}
            bob.round_trip()
            assert not [one for one in bob.seen if one["type"] == "room" and one.get("leaves")]
            cookie = {"Cookie": "; ".join(f"{k}={v}" for k, v in bob_cookies.items())}
            assert host.get("/kick/alice", cookie, b"")[1] == {"connections": 1}
            assert alice.closed().code == 4004
            assert bob.expect("room")["leaves"][0]["user"] == "alice"
    assert host.get("/kick/bob", {}, b"")[0] == 401


@hosted("django_site/asgi.py")
def test_django_site_has_badges_that_are_right_from_the_first_paint_on(host: Host) -> None:
    cookies = {name: log_in(host, name) for name in ("bob", "alice")}
    with host.client("/presence/ws", cookies["alice"]) as alice:
        assert alice.seen[0]["user"] == "alice"
        page = host.get("/")[1]
        assert '<li class="online" data-user="alice">' in page and '<li class="offline" data-user="bob">' in page
        assert host.get("/status/alice")[1] == {"user": "alice", "status": "online"}
    with pytest.raises(HandshakeRefused) as refused:
        host.client("/presence/ws", {"sessionid": "made-up"})
    assert refused.value.status == 401
    assert host.stop() in (0, -15)
    assert "Traceback" not in host.said()


def log_in(host: Host, name: str) -> dict[str, str]:
    """As the form of the page does it, with Django's token against forged requests."""
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', host.get("/")[1])
    assert token is not None
    # the cookie that belongs to the token came with the page; any other pair of the two would do as well
    secret = token[1]
    body = urlencode({"name": name, "csrfmiddlewaretoken": secret}).encode()
    headers = {**FORM, "Cookie": f"csrftoken={secret}"}
    return {key: value for key, value in host.cookie("/login", body, headers).items() if key == "sessionid"}
