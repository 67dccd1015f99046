"""Files that one can read at a sitting, nothing left undone, and nothing that names the machine it was made on."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.architecture.layers import PACKAGE, ROOT

LONGEST = 450
LONGEST_TEST = 520
"""A test file is a list of promises: one reads the one that failed."""
LONGER: dict[str, int] = {}
"""Files that may be longer than that, and how long. Keep it empty if you can."""

CODE = {".py", ".ts", ".tsx", ".lua", ".css", ".sh"}

# Spelled in parts, or this file would name them itself.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("deb", "debian", "org"),
        ("deb", "nodesource", "com"),
        ("crates", "io"),
        ("proxy", "golang", "org"),
    )
]
NAMES_A_REGISTRY = re.compile("|".join(map(re.escape, REGISTRY_HOSTS)))
NAMES_AN_INDEX = re.compile(r"^\s*(?:-i|-f|--index-url|--extra-index-url|--find-links)\b.*", re.MULTILINE)
UNDONE = re.compile(r"\b(?:TODO|FIXME|XXX)\b")


def project_files() -> list[Path]:
    """Every file that git tracks or would track; where there is no git, all but what a build leaves behind."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    left_behind = {".git", ".venv", "node_modules", "dist", "build", "pages", "__pycache__"}
    return [path for path in ROOT.rglob("*") if path.is_file() and not left_behind & set(path.relative_to(ROOT).parts)]


def too_long(name: str, text: str) -> bool:
    return text.count("\n") > LONGER.get(name, LONGEST_TEST if name.startswith("tests/") else LONGEST)


def download_addresses(lock: str) -> list[str]:
    """The packages of a package-lock.json that say from where they were downloaded."""
    packages = json.loads(lock)["packages"]
    return [name for name, entry in packages.items() if "://" in str(entry.get("resolved", ""))]


FILES = project_files()


def test_the_project_has_files() -> None:
    assert ROOT / "pyproject.toml" in FILES
    assert PACKAGE / "__init__.py" in FILES


def test_no_file_of_code_is_too_long_to_read_at_a_sitting() -> None:
    code = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in FILES if path.suffix in CODE}
    assert [f"{name}: {text.count(chr(10))} lines" for name, text in code.items() if too_long(name, text)] == []
    assert set(LONGER) <= set(code), "LONGER lists a file that is gone"


def test_no_file_names_a_package_registry() -> None:
    named = {}
    for path in FILES:
        found = NAMES_A_REGISTRY.search(path.read_text(encoding="utf-8", errors="replace"))
        if found:
            named[path.relative_to(ROOT).as_posix()] = found[0]
    assert named == {}


def test_no_lock_file_says_where_a_package_was_downloaded() -> None:
    addresses = {}
    for path in FILES:
        if path.name == "package-lock.json":
            addresses[path.relative_to(ROOT).as_posix()] = download_addresses(path.read_text(encoding="utf-8"))
        elif path.parent == ROOT / "requirements":
            text = path.read_text(encoding="utf-8")
            addresses[path.name] = NAMES_AN_INDEX.findall(text)
    assert addresses, "there is no lock file at all"
    assert {name: found for name, found in addresses.items() if found} == {}


def test_every_locked_requirement_has_a_hash() -> None:
    locks = [path for path in FILES if path.parent == ROOT / "requirements"]
    bare = [
        f"{path.name}: {entry.splitlines()[0]}"
        for path in locks
        for entry in re.split(r"\n(?=[a-z0-9])", path.read_text(encoding="utf-8"))
        if "==" in entry and "--hash=sha256:" not in entry
    ]
    assert bare == []


def test_nothing_in_the_source_is_left_undone() -> None:
    undone = {
        f"{path.relative_to(ROOT)}:{number}": line.strip()
        for path in FILES
        if path.is_relative_to(ROOT / "src")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if UNDONE.search(line)
    }
    assert undone == {}


@pytest.mark.parametrize("host", REGISTRY_HOSTS)
def test_the_checks_of_this_file_catch_what_they_look_for(host: str) -> None:
    assert NAMES_A_REGISTRY.search(json.dumps({"resolved": f"https://files.{host}/a.tgz"}))
    assert too_long("x.py", "\n" * (LONGEST + 1))
    assert not too_long("x.py", "\n" * LONGEST)
    assert too_long("tests/x.py", "\n" * (LONGEST_TEST + 1))
    assert download_addresses(json.dumps({"packages": {"a": {"resolved": f"https://{host}/a.tgz"}}})) == ["a"]
    assert download_addresses(json.dumps({"packages": {"a": {"resolved": "clients/a", "link": True}, "": {}}})) == []
    assert NAMES_AN_INDEX.findall(f"a==1\n--index-url https://{host}/simple\n")
    assert UNDONE.search("# TO" + "DO: more")
