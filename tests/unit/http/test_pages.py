"""The web pages, built and not built."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stillhere.http.app import DevMode
from stillhere.server.secrets import Secret
from tests.unit.http.stand import SECRET, Stand, standing

POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self' ws: wss:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@pytest.fixture
def built(tmp_path: Path) -> Path:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<p>the demo</p>")
    (tmp_path / "docs.html").write_text("<p>the docs</p>")
    (tmp_path / "assets" / "index-By-ox9MX.css").write_text("p {}")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "assets" / ".hidden").write_text("secret")
    return tmp_path


@pytest.fixture
async def dev(built: Path) -> AsyncIterator[Stand]:
    async with standing(dev=DevMode(Secret(SECRET)), pages=built) as stand:
        yield stand


@pytest.mark.parametrize(("path", "text"), [("/", "<p>the demo</p>"), ("/docs", "<p>the docs</p>")])
async def test_pages_are_checked_for_news_and_may_load_nothing_from_elsewhere(dev: Stand, path: str, text: str) -> None:
    answer = await dev.client.get(path)
    assert (answer.text, answer.headers["content-type"]) == (text, "text/html; charset=utf-8")
    assert (answer.headers["content-security-policy"], answer.headers["cache-control"]) == (POLICY, "no-cache")
    assert (await dev.client.get(path, headers={"If-None-Match": answer.headers["etag"]})).headers["etag"]
    head = await dev.client.head(path)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(text)))


async def test_assets_are_kept_for_ever(dev: Stand) -> None:
    answer = await dev.client.get("/assets/index-By-ox9MX.css")
    assert (answer.text, answer.headers["content-type"]) == ("p {}", "text/css; charset=utf-8")
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "name",
    [
        "nothing.js",
        "..%2Fsecret.txt",
        "%2E%2E%2Fsecret.txt",
        ".hidden",
        "%2Fetc%2Fpasswd",
        "a%00.css",
        "%ff",
    ],
)
async def test_nothing_but_assets_can_be_had(dev: Stand, name: str) -> None:
    answer = await dev.client.get(f"/assets/{name}")
    assert answer.status_code in (400, 404)
    assert "secret" not in answer.text.replace("secret.txt", "")


async def test_without_the_development_server_there_is_no_demo(built: Path) -> None:
    async with standing(pages=built) as stand:
        answer = await stand.client.get("/")
        assert (answer.status_code, answer.headers["location"]) == (307, "/docs")
        assert (await stand.client.get("/docs")).text == "<p>the docs</p>"


async def test_pages_that_are_not_built_say_how_to_build_them() -> None:
    async with standing(dev=DevMode(Secret(SECRET))) as stand:
        answer = await stand.client.get("/")
        assert answer.status_code == 200
        assert "make pages" in answer.text and '<a href="docs">' in answer.text
        assert answer.headers["content-security-policy"] == POLICY


async def test_without_pages_the_docs_are_a_plain_list(stand: Stand) -> None:
    answer = await stand.client.get("/docs")
    document = (await stand.client.get("/openapi.json")).json()
    for path, methods in document["paths"].items():
        for method in methods:
            assert f"<code>{method.upper()} {path}" in answer.text
    assert "<script" not in answer.text
