"""A package is made with the pages where Node is, without them where it is not, and never silently."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.layers import ROOT

NOT_FOUND = {"PATH": "/nonexistent"}


def _load_hook() -> Any:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOOK = _load_hook()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose pages are one line, built by npm without any package."""
    web = tmp_path / "web"
    web.mkdir()
    build = "mkdir -p ../src/stillhere/pages && echo built > ../src/stillhere/pages/index.html"
    (web / "package.json").write_text(f'{{"name": "x", "version": "1.0.0", "scripts": {{"build": "{build}"}}}}')
    (web / "package-lock.json").write_text(
        '{"name": "x", "version": "1.0.0", "lockfileVersion": 3, "packages": {"": {"name": "x", "version": "1.0.0"}}}'
    )
    return tmp_path


def _page(project: Path) -> Path:
    return project / "src" / "stillhere" / "pages" / "index.html"


def test_the_pages_are_built_once_and_again_when_a_source_changes(project: Path) -> None:
    assert shutil.which("npm"), "the tests need Node; `make test` says how to get it"
    assert HOOK.make_pages(project, os.environ) == "the web pages were built."
    assert _page(project).read_text() == "built\n"
    assert HOOK.make_pages(project, os.environ) == "the web pages are up to date."
    later = _page(project).stat().st_mtime + 10
    os.utime(project / "web" / "package.json", (later, later))
    assert HOOK.make_pages(project, os.environ) == "the web pages were built."


def test_without_node_the_package_is_made_without_pages_and_says_so(project: Path) -> None:
    said = HOOK.make_pages(project, NOT_FOUND)
    assert "the package is made without them" in said
    assert "Node 20.19 or newer with npm is not on PATH" in said
    assert not _page(project).exists()


def test_an_old_node_is_named(project: Path) -> None:
    for name, line in (("node", "echo v18.19.0"), ("npm", "exit 9")):
        (project / name).write_text(f"#!/bin/sh\n{line}\n")
        (project / name).chmod(0o755)
    assert "Node is v18.19.0; 20.19 or newer is needed" in HOOK.make_pages(project, {"PATH": str(project)})


def test_a_release_without_node_fails(project: Path) -> None:
    with pytest.raises(HOOK.PagesMissing, match="is not on PATH"):
        HOOK.make_pages(project, {**NOT_FOUND, "STILLHERE_REQUIRE_WEB": "1"})


def test_a_release_that_is_told_to_skip_the_pages_fails(project: Path) -> None:
    with pytest.raises(HOOK.PagesMissing, match="STILLHERE_SKIP_WEB is 1"):
        HOOK.make_pages(project, {**os.environ, "STILLHERE_SKIP_WEB": "1", "STILLHERE_REQUIRE_WEB": "1"})


def test_skipping_ships_the_pages_built_earlier(project: Path) -> None:
    _page(project).parent.mkdir(parents=True)
    _page(project).write_text("earlier")
    said = HOOK.make_pages(project, {**os.environ, "STILLHERE_SKIP_WEB": "1"})
    assert "those built earlier are shipped: STILLHERE_SKIP_WEB is 1." in said


def test_a_source_distribution_needs_no_node(project: Path) -> None:
    _page(project).parent.mkdir(parents=True)
    _page(project).write_text("from the sdist")
    (project / "PKG-INFO").write_text("Name: stillhere\n")
    said = HOOK.make_pages(project, {**NOT_FOUND, "STILLHERE_REQUIRE_WEB": "1"})
    assert said == "the web pages are those that came with the source distribution."


def test_a_failed_build_says_which_step_failed(project: Path) -> None:
    (project / "web" / "package.json").write_text('{"name": "x", "version": "1.0.0", "scripts": {"build": "exit 3"}}')
    assert "`npm run` in web/ ended with status 3" in HOOK.make_pages(project, os.environ)


def test_a_tree_without_web_is_packaged_all_the_same(tmp_path: Path) -> None:
    assert "there is no web/package.json here" in HOOK.make_pages(tmp_path, os.environ)
