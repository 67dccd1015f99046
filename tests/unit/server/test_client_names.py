"""A short name for the software of a client."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhere.server.client_names import client_name

_WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"

KNOWN = {
    f"Mozilla/5.0 (X11; Linux x86_64) {_WEBKIT} Chrome/156.0.0.0 Safari/537.36": "Chrome 156",
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_WEBKIT} Chrome/156.0.0.0 Safari/537.36 Edg/156.0.0.0": "Edge 156",
    f"Mozilla/5.0 (X11; Linux x86_64) {_WEBKIT} Chrome/156.0.0.0 Safari/537.36 OPR/120.0.0.0": "Opera 120",
    "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0": "Firefox 150",
    "Mozilla/5.0 (iPhone) AppleWebKit/605 (KHTML, like Gecko) CriOS/156.0.1 Mobile/15E148 Safari/604.1": "Chrome 156",
    "Mozilla/5.0 (iPhone) AppleWebKit/605 (KHTML, like Gecko) FxiOS/150.0 Mobile/15E148 Safari/605.1": "Firefox 150",
    "Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.1 Safari/605.1.15": "Safari 26",
    "Mozilla/5.0 (Linux) Chrome/ Mobile": "Chrome",
    "Python/3.11 websockets/15.0": "Python 3.11",
    "curl/8.5.0": "curl 8.5.0",
    "okhttp": "okhttp",
    "": "",
}


@pytest.mark.parametrize(("user_agent", "name"), KNOWN.items(), ids=[name or "nothing" for name in KNOWN.values()])
def test_a_client_is_named_by_its_software(user_agent: str, name: str) -> None:
    assert client_name(user_agent) == name


@given(st.text() | st.text().map(lambda text: f"Chrome/{text}") | st.text().map(lambda text: f"Version/{text}Safari/"))
def test_whatever_a_client_says_becomes_at_most_40_printable_characters(user_agent: str) -> None:
    name = client_name(user_agent)
    assert len(name) <= 40 and name.isprintable()
