"""An application's page with the built TypeScript client, for the tests that drive it in real browsers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

DIST = Path(__file__).parents[2] / "clients" / "typescript" / "dist"
"""Where the client is built."""

SLOW = 1.5
"""How long the page ``/slow`` takes to answer, in seconds."""

NOT_BUILT = "the TypeScript client is not built: cd clients/typescript && npm ci && npm run build"
"""Why a test is skipped without it."""

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>presence</title>
<p id="status"></p>
<script type="module">
  import { createPresence } from "/dist/index.js";

  const wanted = new URLSearchParams(location.search);
  window.addEventListener("pageshow", ({ persisted }) => (window.restored ||= persisted));
  const client = createPresence({
    url: wanted.get("server"),
    // without a user: the host knows by its cookie who this is
    getToken: wanted.has("user") ? async () => {
      const answer = await fetch(`/token?user=${encodeURIComponent(wanted.get("user"))}`);
      return answer.text();
    } : undefined,
  });
  window.client = client;
  window.seen = [];
  window.problems = [];
  client.on("presence", (changes) => window.seen.push(...changes.map(({ now }) => [now.user, now.status])));
  client.on("problem", ({ code }) => window.problems.push(code));
  const show = () => (document.querySelector("#status").dataset.status = client.status);
  client.subscribe(show);
  client.watch(wanted.getAll("watch"));
  client.connect();
</script>
"""

OBSERVED = f"""<!doctype html>
<script>
  window.notes = [];
  const note = (what) => notes.push({{ at: Date.now(), ...what }});
  window.WebSocket = class extends WebSocket {{
    constructor(address, protocols) {{
      super(address, protocols);
      note({{ attempt: true }});
      this.addEventListener("message", ({{ data }}) => {{
        const message = JSON.parse(data);
        if (message.type === "moving") note({{ moving: message.reconnectInMs }});
      }});
      this.addEventListener("close", ({{ code }}) => note({{ close: code }}));
    }}
    send(text) {{
      super.send(text);
      if (JSON.parse(text).type === "probe") note({{ probe: true }});
    }}
  }};
  document.addEventListener("visibilitychange", () => note({{ visibility: document.visibilityState }}));
</script>
{PAGE.removeprefix("<!doctype html>")}
<script type="module">
  client.on("status", ({{ status }}) => note({{ status }}));
</script>
"""
"""The page, which notes what happens to its connection in ``notes``, with times in milliseconds of the Unix epoch."""


class Site:
    """The application: it serves the page and the built client, and says who is logged in.

    ``/observed`` is the page that takes notes; ``/slow`` is another page that takes its time; ``/nothing`` answers that
    there is nothing to show (204).
    """

    def __init__(self) -> None:
        """Listen on loopback, on a port of the kernel's choice; :attr:`token` is to be set before a page connects."""
        self.token: Callable[[str], str] = str
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, body = site.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                try:
                    self.end_headers()
                    self.wfile.write(body)
                except ConnectionError:
                    pass  # the page was left before it had loaded

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.origin = f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, address: str) -> tuple[int, str, bytes]:
        """The status, content type and body for a path."""
        path, query = urlsplit(address).path, parse_qs(urlsplit(address).query)
        if path == "/token":
            return 200, "text/plain", self.token(query["user"][0]).encode()
        if path == "/dist/index.js":
            return 200, "text/javascript", (DIST / "index.js").read_bytes()
        if path == "/slow":
            time.sleep(SLOW)
            return 200, "text/html", b"<!doctype html><title>slow</title><p>at last"
        if path == "/observed":
            return 200, "text/html", OBSERVED.encode()
        if path == "/nothing":
            return 204, "text/plain", b""
        return (200, "text/html", PAGE.encode()) if path == "/" else (404, "text/plain", b"there is no such page")

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
