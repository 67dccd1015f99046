"""The order of tests in several processes, seen on a small suite of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.turns import ALONE, TOGETHER

ROOT = Path(__file__).resolve().parents[2]

CONFTEST = """
import json, os, time
import pytest
from tests.turns import Turns

class Small(Turns):
    alone = ("test_a.py::test_measures", "test_z.py::test_measures")
    together = ("test_y.py", "test_z.py")

def pytest_xdist_make_scheduler(config, log):
    config.option.loadscopereorder = False
    return Small(config, log)

@pytest.fixture(autouse=True)
def noted():
    began = time.monotonic()
    yield
    line = json.dumps([os.environ["PYTEST_CURRENT_TEST"].split(" ")[0], os.getpid(), began, time.monotonic()])
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(line + "\\n")
"""
NINE = "".join(f"def test_{n}(): pass\n" for n in range(9))
FILES = {
    "test_a.py": f"{NINE}def test_measures(): pass\n",
    "test_b.py": NINE,
    "test_c.py": "def test_0(): pass\n",
    "test_y.py": "import time\ndef test_waits(): time.sleep(0.3)\n",
    "test_z.py": "import pytest, time\n"
    "def test_waits(): time.sleep(0.3)\n"
    "@pytest.mark.parametrize('n', [1, 2])\ndef test_measures(n): pass\n",
}


class Ran(NamedTuple):
    """One test, as it noted itself."""

    test: str
    process: int
    began: float
    ended: float


def run(folder: Path, *options: str) -> list[Ran]:
    """Run the small suite in two processes, and tell in which order its tests began."""
    notes = folder / "notes"
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "conftest.py").write_text(CONFTEST)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "xdist",
            "-n2",
            "--dist=loadfile",
            "-p",
            "no:cacheprovider",
            *options,
        ],
        cwd=folder,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "NOTES": str(notes),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return sorted((Ran(*json.loads(line)) for line in notes.read_text().splitlines()), key=lambda ran: ran.began)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> list[Ran]:
    return run(tmp_path_factory.mktemp("small"))


def test_tests_that_measure_run_last_and_beside_nothing(everything: list[Ran]) -> None:
    alone = [ran for ran in everything if "measures" in ran.test]
    others = [ran for ran in everything if "measures" not in ran.test]
    assert (len(others), len(alone)) == (21, 3)
    assert len({ran.process for ran in others}) == 2, "two processes, or this says nothing"
    assert len({ran.process for ran in alone}) == 1
    assert max(ran.ended for ran in others) <= alone[0].began


def test_what_belongs_together_is_run_by_one_process_and_first(everything: list[Ran]) -> None:
    together = [ran for ran in everything if "waits" in ran.test]
    assert [ran.test for ran in together] == ["test_y.py::test_waits", "test_z.py::test_waits"]
    assert len({ran.process for ran in together}) == 1
    assert not [ran for ran in everything if ran.process == together[0].process and ran.began < together[0].began]


@pytest.mark.parametrize("name", ["test_a.py", "test_b.py"])
def test_a_file_is_run_by_one_process_in_its_order(everything: list[Ran], name: str) -> None:
    mine = [ran for ran in everything if ran.test.startswith(f"{name}::") and "measures" not in ran.test]
    assert [ran.test for ran in mine] == [f"{name}::test_{n}" for n in range(9)]
    assert len({ran.process for ran in mine}) == 1


@pytest.mark.parametrize("part", ["test_a.py::test_measures", "test_c.py test_z.py"])
def test_a_part_of_the_tests_ends_as_well(tmp_path: Path, part: str) -> None:
    assert len(run(tmp_path, *part.split())) == (4 if "test_z.py" in part else 1)


@pytest.mark.parametrize("test", [*ALONE, *TOGETHER])
def test_the_tables_name_tests_that_there_are(test: str) -> None:
    file, _, name = test.partition("::")
    text = (ROOT / file).read_text(encoding="utf-8")
    assert f"def {name}(" in text if name else "pytest.mark.browser" in text


def test_every_file_that_drives_a_browser_is_in_the_table() -> None:
    driving = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests" / "acceptance").rglob("test_*.py")
        if "pytest.mark.browser" in path.read_text(encoding="utf-8")
    }
    assert driving == set(TOGETHER)
