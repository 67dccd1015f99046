"""The built web pages, and what stands in for them where they are not built.

``make pages`` puts them into ``stillhere/pages``; a wheel brings them along.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any

from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

import stillhere
from stillhere.http.asyncapi import list_messages
from stillhere.http.call import Call
from stillhere.http.errors import Refused
from stillhere.http.operations import Operation

FOLDER = Path(stillhere.__file__).parent / "pages"

PAGE_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self' ws: wss:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
ADMIN_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
"""The admin pages hold a credential: nothing inline, nobody else to talk to, and no text that becomes markup."""

_FRESH = {"Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-cache"}
_FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable"}
"""The name of an asset holds a hash of its content."""

_ASSET = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")

_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
code { font-size: .95em; }
dt { margin-top: 1rem; } dd { margin: 0 0 0 1.5rem; opacity: .85; }
"""


class Pages:
    """Serves the pages of a folder."""

    def __init__(self, folder: Path, document: dict[str, Any]) -> None:
        """Take the folder as it is at each request.

        Args:
            folder: with ``index.html``, ``docs.html`` and ``assets``.
            document: the API document, for the plain list that stands in for ``docs.html``.
        """
        self._folder = folder
        self._document = document

    async def demo(self, call: Call) -> Response:
        """The demo page."""
        return self._page("index.html") or _html("The pages are not built", _NOT_BUILT)

    async def docs(self, call: Call) -> Response:
        """The browsable API document."""
        return self._page("docs.html") or _html("Stillhere HTTP API", list_operations(self._document))

    async def websocket(self, call: Call) -> Response:
        """The browsable document of the WebSocket protocol."""
        return self._page("websocket.html") or _html("Stillhere WebSocket protocol", list_messages())

    async def admin(self, call: Call) -> Response:
        """The admin pages: which of them is the browser's business."""
        found = self._page("admin.html", ADMIN_POLICY)
        return found or _html("The pages are not built", _NOT_BUILT.replace('"docs"', f'"{_root(call)}/docs"'))

    async def to_docs(self, call: Call) -> Response:
        """Where there is no demo page."""
        return RedirectResponse(f"{_root(call)}/docs")

    async def asset(self, call: Call) -> Response:
        """A script, style sheet or picture."""
        name = call.path("name")
        path = self._folder / "assets" / name
        if not _ASSET.fullmatch(name) or not path.is_file():
            raise Refused(404, f"there is no asset {name[:64]!r}")
        return FileResponse(path, headers=_FOR_EVER)

    def operations(self, *, dev: bool) -> tuple[Operation, ...]:
        """The calls that serve them."""
        page = "A page"
        return (
            Operation(method="GET", path="/", handler=self.demo if dev else self.to_docs, summary=page, hidden=True),
            Operation(method="GET", path="/docs", handler=self.docs, summary=page, hidden=True),
            Operation(method="GET", path="/docs/websocket", handler=self.websocket, summary=page, hidden=True),
            Operation(method="GET", path="/assets/{name}", handler=self.asset, summary="A file", hidden=True),
            *(Operation(method="GET", path=path, handler=self.admin, summary=page, hidden=True) for path in _ADMIN),
        )

    def _page(self, name: str, policy: str = PAGE_POLICY) -> Response | None:
        path = self._folder / name
        return FileResponse(path, headers={**_FRESH, "Content-Security-Policy": policy}) if path.is_file() else None


_ADMIN = ("/admin", "/admin/", "/admin/{view}", "/admin/{view}/{id}")
"""A link to a user may be a path, too; the page turns it into its own address."""


def _root(call: Call) -> str:
    """Where the application is mounted."""
    root: str = call.request.scope.get("root_path", "")
    return root


def _html(title: str, body: str) -> Response:
    """A page that needs no files."""
    head = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
    )
    return HTMLResponse(f"{head}<body><main><h1>{escape(title)}</h1>{body}</main></body></html>", headers=_FRESH)


_NOT_BUILT = """
<p>The server runs, but its web pages have not been built. In the checkout, with Node.js 20 or newer, run</p>
<pre><code>make pages</code></pre>
<p>and load this page again; the server need not be restarted. Everything else works without them: see
<a href="docs">the HTTP API</a>.</p>
"""


def list_operations(document: dict[str, Any]) -> str:
    """The API document as plain HTML."""
    parts = [
        f"<p>{escape(document['info']['description']).replace(chr(10) * 2, '</p><p>')}</p>",
        '<p>The whole document: <a href="openapi.json">openapi.json</a>. Messages over WebSockets are on ',
        '<a href="docs/websocket">a page of their own</a>. (With the web pages built, by ',
        "<code>make pages</code>, this page lets you try the calls.)</p>",
    ]
    for tag in document["tags"]:
        parts.append(f"<h2>{escape(tag['name'])}</h2><p>{escape(tag['description'])}</p><dl>")
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation["tags"]:
                    parts.append(_list_operation(method, path, operation))
        parts.append("</dl>")
    return "".join(parts)


def _list_operation(method: str, path: str, operation: dict[str, Any]) -> str:
    names = [p["name"] for p in operation.get("parameters", ()) if p["in"] == "query"]
    query = f"?{'&'.join(f'{name}=' for name in names)}" if names else ""
    text = operation.get("description", "")
    return (
        f"<dt><code>{method.upper()} {escape(path + query)}</code> {escape(operation['summary'])}</dt>"
        f"<dd>{escape(text)}</dd>"
    )
