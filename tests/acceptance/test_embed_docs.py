"""Every block of Python in docs/embedding.md runs, and so does the README's: tests in it pass, applications start."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.hosting import ROOT
from tests.acceptance.server import environment

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

EPILOGUE = """

import asyncio as _asyncio


async def _start_and_stop(app):
    received, sent = _asyncio.Queue(), _asyncio.Queue()
    running = _asyncio.ensure_future(app({"type": "lifespan", "state": {}}, received.get, sent.put))
    for what in ("startup", "shutdown"):
        received.put_nowait({"type": f"lifespan.{what}"})
        told = await _asyncio.wait_for(sent.get(), 20)
        assert told["type"] == f"lifespan.{what}.complete", told
    await running


for _name, _value in list(globals().items()):
    if _name.startswith("test_"):
        _asyncio.run(_value())
        print("passed", _name)
    elif _name in ("app", "application"):
        _asyncio.run(_start_and_stop(_value))
        print("started", _name)
"""


def blocks(page: str) -> list[str]:
    return BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


PAGES = ("docs/embedding.md", "README.md")
ALL = [(page, number) for page in PAGES for number in range(len(blocks(page)))]


@pytest.mark.parametrize(("page", "number"), ALL)
def test_a_block_runs_as_it_is_written(page: str, number: int, tmp_path: Path) -> None:
    code = blocks(page)[number]
    program = tmp_path / "block.py"
    program.write_text(code + EPILOGUE, encoding="utf-8")
    environ = environment()
    environ["PYTHONPATH"] += f":{ROOT}"
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    promised = len(re.findall(r"^async def test_", code, re.MULTILINE))
    assert done.stdout.count("passed") == promised
    if re.search(r"^app(lication)? =", code, re.MULTILINE):
        assert "started" in done.stdout


def test_the_page_has_blocks_and_the_readme_too() -> None:
    assert all(blocks(page) for page in PAGES)
