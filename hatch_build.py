"""Builds the web pages into the package before a wheel or an sdist is made of it.

Three variables of the environment steer it: ``STILLHERE_SKIP_WEB=1`` builds nothing, ``STILLHERE_REQUIRE_WEB=1``
fails where the pages would be missing or old (for releases), and ``PATH`` says where Node is. Without Node, and
without being required to, the package is made without pages; the server then shows how to build them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE_AT_LEAST = (20, 19)
"""What Vite needs."""


class PagesMissing(Exception):
    """The pages cannot be built; the message says why and what would help."""


class PagesHook(BuildHookInterface[Any]):
    """Hatchling calls :meth:`initialize` before it collects files."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the pages where that is possible and wanted.

        Args:
            version: ``standard``, or ``editable`` for an editable install, which serves whatever ``make pages`` made.
            build_data: not used.

        Raises:
            PagesMissing: ``STILLHERE_REQUIRE_WEB=1`` and there are none, or only old ones.
        """
        if version == "editable":
            self.app.display_info("stillhere: an editable install builds no web pages; `make pages` does.")
            return
        self.app.display_waiting(f"stillhere: {make_pages(Path(self.root), os.environ)}")


def make_pages(root: Path, environ: Mapping[str, str]) -> str:
    """Bring ``src/stillhere/pages`` up to date with ``web``, if possible.

    Args:
        root: the top of the project.
        environ: the environment, read and handed to npm.

    Returns:
        A sentence that says what was done.

    Raises:
        PagesMissing: they are required and cannot be had.
    """
    built = root / "src" / "stillhere" / "pages" / "index.html"
    if (root / "PKG-INFO").is_file() and built.is_file():
        return "the web pages are those that came with the source distribution."
    try:
        return _build(root / "web", built, environ)
    except PagesMissing as missing:
        if environ.get("STILLHERE_REQUIRE_WEB") == "1":
            raise
        kept = "those built earlier are shipped" if built.is_file() else "the package is made without them"
        return f"the web pages were not built, {kept}: {missing}"


def _build(web: Path, built: Path, environ: Mapping[str, str]) -> str:
    if environ.get("STILLHERE_SKIP_WEB") == "1":
        raise PagesMissing("STILLHERE_SKIP_WEB is 1.")
    if not (web / "package.json").is_file():
        raise PagesMissing("there is no web/package.json here.")
    if built.is_file() and _newest(web) <= built.stat().st_mtime:
        return "the web pages are up to date."
    npm = _npm(environ)
    for arguments in (["ci", "--no-audit", "--no-fund"], ["run", "build"]):
        done = subprocess.run([npm, *arguments], cwd=web, env=dict(environ), stdin=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            raise PagesMissing(f"`npm {arguments[0]}` in web/ ended with status {done.returncode}, see above.")
    if not built.is_file():
        raise PagesMissing("`npm run build` in web/ succeeded but made no src/stillhere/pages/index.html.")
    return "the web pages were built."


def _newest(web: Path) -> float:
    """When a source of the pages was last changed, in seconds since the epoch."""
    newest = 0.0
    for folder, subfolders, names in os.walk(web):
        subfolders[:] = [name for name in subfolders if name not in {"node_modules", "dist", "coverage"}]
        newest = max([newest, *(Path(folder, name).lstat().st_mtime for name in names)])
    return newest


def _npm(environ: Mapping[str, str]) -> str:
    """The path of npm, once Node is known to be there and new enough."""
    wanted = ".".join(map(str, NODE_AT_LEAST))
    node, npm = (shutil.which(name, path=environ.get("PATH", "")) for name in ("node", "npm"))
    if node is None or npm is None:
        raise PagesMissing(f"Node {wanted} or newer with npm is not on PATH.")
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    found = re.fullmatch(r"v(\d+)\.(\d+)\..*", said)
    if found is None or (int(found[1]), int(found[2])) < NODE_AT_LEAST:
        raise PagesMissing(f"Node is {said or 'silent about its version'}; {wanted} or newer is needed.")
    return npm
