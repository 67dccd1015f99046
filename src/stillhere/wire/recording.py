"""Recordings: timelines as JSON lines, to keep, to share and to replay.

The first line is a header, every other one an entry of the timeline of a user, oldest first; several recordings may
stand one after the other. Seconds are written in full, because a replay has to come to the same instants.
"""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Any, Union, get_args, get_origin

import msgspec

from stillhere.core.events import (
    Contributed,
    Entry,
    Given,
    GraceCancelled,
    GraceExpired,
    GraceStarted,
    Lapsed,
    Prolonged,
    Returned,
    Transition,
)
from stillhere.core.replay import HORIZON
from stillhere.core.words import UserId

VERSION = 1
"""Of the format: a reader refuses another one."""

MEDIA = "application/x-ndjson"

_TAGS: dict[type[Any], str] = {
    Contributed: "told",
    Lapsed: "windows_ran_out",
    Prolonged: "windows_prolonged",
    Transition: "transition",
    GraceStarted: "grace_started",
    GraceCancelled: "grace_cancelled",
    GraceExpired: "grace_expired",
    Returned: "returned",
}


class Header(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """What a recording says of itself."""

    stillhere: str = "recording"
    version: int = VERSION
    exported_at: float
    """Unix time in seconds: up to when it tells of everything."""
    horizon: float = HORIZON
    """Seconds after an OFFLINE within which a return makes it a false one."""
    windows: dict[str, float] = {}
    """The grace windows in force when it was written, in seconds, by cause."""
    pseudonyms: bool = False
    """Ids were replaced, and what an application had put into metadata."""


class Recording(msgspec.Struct):
    """A recording that was read."""

    exported_at: float = 0.0
    horizon: float = HORIZON
    windows: dict[str, float] = {}
    timelines: dict[UserId, list[Entry]] = {}
    """By user, in the order of their first lines."""

    @property
    def entries(self) -> int:
        """Of all users."""
        return sum(map(len, self.timelines.values()))


class BrokenRecording(ValueError):
    """A line is not what it should be; the message says which and why."""


def write_header(header: Header) -> bytes:
    """The first line."""
    return msgspec.json.encode(header) + b"\n"


def write_entry(entry: Entry) -> bytes:
    """A line."""
    return msgspec.json.encode(msgspec.convert(entry, _named(type(entry)), from_attributes=True)) + b"\n"


def read_recording(lines: Iterable[bytes]) -> Recording:
    """Read what was written.

    Args:
        lines: of a file; empty ones are passed over.

    Raises:
        BrokenRecording: with the number of the line and what is wrong with it.
    """
    reader = _Reader()
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text:
            try:
                reader.line(text)
            except ValueError as error:
                raise BrokenRecording(f"line {number}: {error}") from None
    if not reader.headed:
        raise BrokenRecording("line 1: there is nothing; a recording begins with a header")
    return reader.found


class _Reader:
    def __init__(self) -> None:
        self.found = Recording()
        self.headed = False
        self._clocks: dict[UserId, float] = {}
        self._versions: dict[UserId, int] = {}

    def line(self, text: bytes) -> None:
        try:
            line = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"it is not JSON ({error}); was it cut off?") from None
        if isinstance(line, dict) and "stillhere" in line:
            self._header(line)
        elif not self.headed:
            raise ValueError('it is no header; a recording begins with {"stillhere":"recording","version":1,…}')
        else:
            self._entry(_entry_of(line))

    def _header(self, line: dict[str, Any]) -> None:
        if line["stillhere"] != "recording":
            raise ValueError(f"it is the header of something else: {str(line['stillhere'])[:64]!r}")
        if line.get("version") != VERSION:
            raise ValueError(
                f"it is of version {str(line.get('version'))[:16]} of the format; this program reads version {VERSION}"
            )
        try:
            header = msgspec.convert(line, Header, strict=False)
        except msgspec.ValidationError as error:
            raise ValueError(f"the header is not right: {error}") from None
        self.headed = True
        found = self.found
        found.exported_at = max(found.exported_at, header.exported_at)
        found.horizon, found.windows = header.horizon, header.windows

    def _entry(self, entry: Entry) -> None:
        user = entry.user
        if isinstance(entry, Given):
            before = self._clocks.get(user, entry.clock)
            if entry.clock < before:
                raise ValueError(
                    f"the store clock of {user[:64]!r} goes back from {before:g} to {entry.clock:g}: the lines are out "
                    "of order, or the user is in the recording twice"
                )
            self._clocks[user] = entry.clock
        elif isinstance(entry, Transition):
            last = self._versions.get(user, 0)
            if entry.version <= last:
                raise ValueError(
                    f"version {entry.version} of {user[:64]!r} comes after version {last}: the lines are out of order, "
                    "or the user is in the recording twice"
                )
            self._versions[user] = entry.version
        self.found.timelines.setdefault(user, []).append(entry)


def _entry_of(line: Any) -> Entry:
    tag = line.get("entry") if isinstance(line, dict) else None
    struct = next((struct for struct, name in _TAGS.items() if name == tag), None)
    if struct is None:
        raise ValueError(f"its entry is {str(tag)[:64]!r}; it must be one of {', '.join(_TAGS.values())}")
    try:
        named = msgspec.convert(line, _named(struct))
        entry: Entry = msgspec.convert(named, struct, from_attributes=True)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ValueError(f"the entry is not right: {error}") from None
    return entry


_twins: dict[type[Any], type[msgspec.Struct]] = {}


def _named(struct: type[Any]) -> type[msgspec.Struct]:
    """The same struct, written with the names of its fields; in the stores they are arrays, to be short."""
    twin = _twins.get(struct)
    if twin is None:
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
        for field in msgspec.structs.fields(struct):
            type_ = _renamed(field.type)
            required = field.default is msgspec.NODEFAULT
            fields.append((field.name, type_) if required else (field.name, type_, field.default))
        tag = _TAGS.get(struct)
        twin = _twins[struct] = msgspec.defstruct(
            struct.__name__,
            fields,
            rename="camel",
            frozen=True,
            omit_defaults=True,
            tag_field="entry" if tag else None,
            tag=tag,
        )
    return twin


def _renamed(type_: Any) -> Any:
    """A type, with structs inside it replaced as well."""
    origin = get_origin(type_)
    if isinstance(type_, type) and origin is None and issubclass(type_, msgspec.Struct):
        return _named(type_)
    if origin is tuple:
        return tuple[tuple(part if part is Ellipsis else _renamed(part) for part in get_args(type_))]  # type: ignore[misc]
    if origin in (Union, types.UnionType):
        return Union[tuple(map(_renamed, get_args(type_)))]  # noqa: UP007 - made of parts
    return type_
