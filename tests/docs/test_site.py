"""The documentation: a site without a broken link that fetches nothing from elsewhere, and examples that run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
FETCHED = re.compile(r"""<(?:script|link|img|iframe)[^>]*(?:src|href)=["'](https?://[^"']+)""")


def build(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_site_builds_without_a_broken_link_and_fetches_nothing_from_elsewhere(tmp_path: Path) -> None:
    build(tmp_path)
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 20
    assert (tmp_path / "quickstart.html").is_file()
    fetched = {url for page in pages for url in FETCHED.findall(page.read_text())}
    assert {url for url in fetched if "stillhere" not in url} == set()


def test_every_page_of_the_documentation_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    missing = [page.name for page in (ROOT / "docs").glob("*.md") if page.name not in navigation]
    assert missing == []


@pytest.mark.parametrize("page", ["quickstart.md"])
def test_the_python_examples_of_a_page_run(page: str, tmp_path: Path) -> None:
    blocks = BLOCK.findall((ROOT / "docs" / page).read_text())
    assert blocks
    program = tmp_path / "page.py"
    program.write_text("\n".join(blocks))
    done = subprocess.run([sys.executable, str(program)], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
