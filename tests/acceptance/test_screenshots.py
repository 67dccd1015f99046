"""`make screenshots`: the pictures of the admin pages in the documentation are taken, not drawn."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.server import environment

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
LARGEST = 120_000


def size_of(picture: bytes) -> tuple[int, int]:
    """Width and height of a PNG, out of its first chunk (PNG specification, section 11.2.1)."""
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert picture[12:16] == b"IHDR"
    width, height = struct.unpack(">II", picture[16:24])
    return width, height


def test_one_page_is_taken_into_the_folder_that_was_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.screenshots", "--only", "user", "--out", str(tmp_path)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=110,
    )

    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["admin-user.png"]
    picture = (tmp_path / "admin-user.png").read_bytes()
    assert size_of(picture) == (1100, 700)
    assert len(picture) < LARGEST


def test_every_picture_that_the_documentation_shows_of_the_admin_pages_is_there_and_small() -> None:
    shown = set(re.findall(r"\(images/(admin-[a-z]+\.png)\)", (ROOT / "docs" / "recorder.md").read_text()))
    kept = {path.name: path for path in (ROOT / "docs" / "images").glob("admin-*.png")}

    assert shown == set(kept)
    assert len(kept) == 8
    for path in kept.values():
        assert size_of(path.read_bytes()) == (1100, 700)
        assert path.stat().st_size < LARGEST
