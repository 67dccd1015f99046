"""docs/settings.md is complete and true."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from stillhere.server.settings import KEYS, Settings, load_settings

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"
UNSET = "—"


class Row(NamedTuple):
    section: str
    key: str
    default: str
    unit: str
    variable: str
    meaning: str


def rows() -> list[Row]:
    found: list[Row] = []
    section = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line[3:].strip()
        elif line.startswith("| `"):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            assert len(cells) == 5, line
            key, default, unit, variable, meaning = cells
            found.append(Row(section, key.strip("` |"), default, unit, variable.strip("`"), meaning.rstrip(" |")))
    return found


def default_of(key: str) -> object:
    section, _, name = key.partition(".")
    value = getattr(Settings(), section)
    return getattr(value, name) if name else value


def test_every_setting_is_on_the_page_once_and_in_its_section() -> None:
    assert sorted(row.key for row in rows()) == sorted(KEYS.by_name)
    assert all(row.key.partition(".")[0] == row.section for row in rows())


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.key)
def test_a_row_tells_the_truth(row: Row) -> None:
    assert row.variable == KEYS.by_name[row.key].variable
    assert row.meaning
    value = default_of(row.key)
    if row.key == "server.node":
        assert row.default == "the host name"
    elif value is None:
        assert row.default == UNSET
    else:
        written = tomllib.loads(f"x = {row.default.strip('`')}")["x"]
        assert written == msgspec.to_builtins(value) or (written, value) == ([], ())


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.key)
def test_the_unit_is_that_of_the_name(row: Row) -> None:
    name = row.key.rpartition(".")[2]
    milliseconds = name.endswith("_ms") or (row.section == "grace" and name != "profile")
    assert (row.unit == "ms") is milliseconds
    assert (row.unit == "bytes") is name.endswith("_bytes")
    assert (row.unit == "s") is name.endswith("_s")


def test_a_file_of_all_the_defaults_of_the_page_changes_nothing(tmp_path: Path) -> None:
    lines = [f"{row.key} = {row.default.strip('`')}" for row in rows() if row.default not in (UNSET, "the host name")]
    file = tmp_path / "stillhere.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    assert load_settings(file, {}, {}) == Settings()


def test_the_example_of_the_page_loads(tmp_path: Path) -> None:
    example = PAGE.read_text(encoding="utf-8").partition("```toml\n")[2].partition("```")[0]
    file = tmp_path / "stillhere.toml"
    file.write_text(example, encoding="utf-8")
    assert load_settings(file, {}, {}).grace.going_away == 12_000
