"""From a file, the environment and flags to typed values, key by key, with every problem gathered.

Each key is converted on its own: msgspec stops at the first error of a struct, and an operator wants to see them all.
"""

from __future__ import annotations

import difflib
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from stillhere.core.grace import OFFLINE_GRACE_CAUSES
from stillhere.core.words import FINAL_CAUSES
from stillhere.server.secrets import REDACTED, Secret

PREFIX = "STILLHERE_"
OFFLINE_GRACE = "PRESENCE_OFFLINE_GRACE_MS"


class SettingsError(ValueError):
    """Settings that cannot be served with: one sentence a problem, each naming key, value and what would be right."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class Key(msgspec.Struct, frozen=True):
    """One setting."""

    name: str
    type: Any
    expected: str
    """Completes "it must be …"."""
    secret: bool
    """Its value must not be shown, and may be read from a file named in the environment."""
    compound: bool
    """A list: JSON in the environment."""

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return variable_of(self.name)

    def show(self, value: object) -> str:
        """The value for a message."""
        return REDACTED if self.secret else shown(value)


class Keys:
    """All settings of a struct of structs, by ``section.key``."""

    def __init__(self, keys: Mapping[str, Key], sections: frozenset[str]) -> None:
        self.by_name = dict(keys)
        self.sections = sections
        self.by_variable = {key.variable: key for key in keys.values()}

    @classmethod
    def of(cls, settings: type[msgspec.Struct]) -> Keys:
        keys: dict[str, Key] = {}
        sections: set[str] = set()
        hints = typing.get_type_hints(settings, include_extras=True)
        for field in msgspec.structs.fields(settings):
            kind = hints[field.name]
            if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
                sections.add(field.name)
                inner = typing.get_type_hints(kind, include_extras=True)
                for leaf in msgspec.structs.fields(kind):
                    name = f"{field.name}.{leaf.name}"
                    keys[name] = _key(name, inner[leaf.name])
            else:
                keys[field.name] = _key(field.name, kind)
        return cls(keys, frozenset(sections))

    def like(self, name: str) -> str:
        """A hint for a name that is no key: ``; did you mean …?``, or nothing."""
        tail = name.rpartition(".")[2]
        # The right word in the wrong table, or in none, comes before words that merely look alike.
        best = [key for key in self.by_name if key.rpartition(".")[2] == tail]
        if "." not in name:
            best += [f"[{section}]" for section in difflib.get_close_matches(name, sorted(self.sections), n=1)]
        best += difflib.get_close_matches(name, self.by_name, n=1)
        return f"; did you mean {best[0]}?" if best else f"; the sections are {', '.join(sorted(self.sections))}"


class Gathered(msgspec.Struct):
    """What the sources say."""

    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    """For each key that was set, where: completes "key is value (…)"."""
    problems: list[str] = []
    refused: set[str] = set()
    """Keys whose value could not be used: rules about them are not worth checking."""

    def take(self, key: Key, value: object, source: str, *, text: bool) -> None:
        """Convert and keep a value, in place of what an earlier source said.

        Args:
            key: what it is for.
            value: as the source gave it.
            source: where it was read.
            text: the source knows only text: numbers and lists are written in it.
        """
        try:
            converted = _convert(key, value, text=text)
        except ValueError as error:
            self.problems.append(f"{key.name} is {key.show(value)} ({source}); it must be {key.expected}{_why(error)}")
            self.refused.add(key.name)
            return
        self.values[key.name] = converted
        self.sources[key.name] = source


def gather(keys: Keys, file: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Gathered:
    """Read all sources, later ones over earlier ones."""
    gathered = Gathered()
    if file is not None:
        for name, value in _flatten(keys, _toml(file, gathered), gathered, str(file)):
            gathered.take(keys.by_name[name], value, str(file), text=False)
    _environment(keys, environ, gathered)
    for name, value in flags.items():
        if value is None:
            continue
        key = keys.by_name.get(name)
        if key is None:
            gathered.problems.append(_unknown(keys, name, value, "command line"))
        else:
            gathered.take(key, value, "command line", text=isinstance(value, str))
    return gathered


def variable_of(name: str) -> str:
    """``limits.watch`` is ``STILLHERE_LIMITS__WATCH`` in the environment."""
    return PREFIX + name.upper().replace(".", "__")


def shown(value: object) -> str:
    """A value as JSON; long ones are cut."""
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError):
        text = f"a {type(value).__name__}"  # a date of TOML, or what a caller put into the flags
    return text if len(text) <= 120 else f"{text[:117]}…"


def _toml(file: Path, gathered: Gathered) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        gathered.problems.append(f"{file} cannot be read ({error.strerror}); give the path of a TOML file")
    except UnicodeDecodeError as error:
        gathered.problems.append(f"{file} is not UTF-8 (byte {error.start}); TOML must be")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        gathered.problems.append(f"{file} is not TOML: {error}")
    return {}


def _flatten(keys: Keys, table: Mapping[str, Any], gathered: Gathered, source: str) -> Iterator[tuple[str, Any]]:
    for section, content in table.items():
        if section in keys.by_name:
            yield section, content
        elif section not in keys.sections:
            gathered.problems.append(_unknown(keys, section, content, source))
        elif not isinstance(content, dict):
            gathered.problems.append(f"{section} is no table ({source}); write [{section}] and its keys below it")
        else:
            for leaf, value in content.items():
                name = f"{section}.{leaf}"
                if name in keys.by_name:
                    yield name, value
                else:
                    gathered.problems.append(_unknown(keys, name, value, source))


def _environment(keys: Keys, environ: Mapping[str, str], gathered: Gathered) -> None:
    if environ.get(OFFLINE_GRACE):
        _offline_grace(keys, environ[OFFLINE_GRACE], gathered)
    for variable, value in environ.items():
        # An empty variable counts as absent: ``${NAME:-}`` in a compose file sets it to that.
        if not variable.startswith(PREFIX) or not value:
            continue
        key = keys.by_variable.get(variable)
        if key is not None:
            gathered.take(key, value if key.secret else value.strip(), variable, text=True)
            continue
        key = keys.by_variable.get(variable.removesuffix("_FILE")) if variable.endswith("_FILE") else None
        if key is not None:
            _from_file(key, variable, value, environ, gathered)
        elif "__" in variable:
            name = variable.removeprefix(PREFIX).lower().replace("__", ".")
            gathered.problems.append(_unknown(keys, name, value, variable))
        else:
            _single_underscore(keys, variable, value, gathered)


def _offline_grace(keys: Keys, text: str, gathered: Gathered) -> None:
    """Set the windows of the page's own departures at once; any explicit one, from whatever source, is stronger."""
    before = dict(gathered.sources)
    seen = len(gathered.problems)
    for cause in OFFLINE_GRACE_CAUSES:
        if f"grace.{cause}" not in before:
            gathered.take(keys.by_name[f"grace.{cause}"], text.strip(), OFFLINE_GRACE, text=True)
    if len(gathered.problems) > seen:  # one sentence, not one for each cause
        expected = keys.by_name[f"grace.{OFFLINE_GRACE_CAUSES[0]}"].expected
        gathered.problems[seen:] = [f"{OFFLINE_GRACE} is {shown(text)} (environment); it must be {expected}"]


def _from_file(key: Key, variable: str, path: str, environ: Mapping[str, str], gathered: Gathered) -> None:
    """Read a secret from the file that ``…_FILE`` names, as container platforms mount them."""
    if not key.secret:
        gathered.problems.append(f"{variable} is set, but {key.name} is not a secret; set {key.variable} itself")
        return
    if environ.get(key.variable):
        gathered.problems.append(f"{variable} and {key.variable} are both set; keep one of them")
        return
    source = f"{variable}, file {path}"
    try:
        text = Path(path).read_bytes().decode("utf-8-sig").rstrip("\r\n")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        gathered.problems.append(f"{key.name} cannot be read from {path} ({variable}): {why}")
        gathered.refused.add(key.name)
        return
    gathered.take(key, text, source, text=True)


def _single_underscore(keys: Keys, variable: str, value: str, gathered: Gathered) -> None:
    """Catch ``STILLHERE_SERVER_PORT``; other names without ``__`` are not settings (``STILLHERE_URL`` of the tools).

    A Kubernetes service called "stillhere-server" sets that very name, to ``tcp://…``: that is not meant for us.
    """
    if value.startswith(("tcp://", "udp://", "sctp://")):
        return
    for key in keys.by_name.values():
        if key.variable != variable and key.variable.replace("__", "_") == variable:
            gathered.problems.append(
                f"{variable} is not a setting; did you mean {key.variable} (two underscores after the section)?"
            )


def _unknown(keys: Keys, name: str, value: object, source: str) -> str:
    cause = name.removeprefix("grace.")
    if cause in FINAL_CAUSES and name != cause:
        return f"{name} cannot be set ({source}): {cause} is a departure and leaves no window"
    # Text is not shown: it may be a secret under a mistyped name.
    what = f"{name} is {shown(value)}" if isinstance(value, bool | int | float) else name
    return f"{what} ({source}): there is no such setting{keys.like(name)}"


def _convert(key: Key, value: object, *, text: bool) -> Any:
    """Convert one value; raises ValueError."""
    if text and key.compound:
        assert isinstance(value, str)
        if key.type == tuple[Secret, ...] and not value.lstrip().startswith("["):
            value = [line for line in value.splitlines() if line]  # a mounted file, one key a line
        else:
            value = msgspec.json.decode(value)
    lenient = text and not key.compound
    converted = msgspec.convert(value, key.type, strict=not lenient, dec_hook=_secret)
    if isinstance(converted, float) and not abs(converted) < float("inf"):
        raise ValueError  # "inf" and "nan" are floats to TOML and to msgspec
    return converted


def _secret(kind: type, value: object) -> object:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise ValueError("a secret must be a text")


def _why(error: ValueError) -> str:
    """Where in a compound value the fault is. msgspec's messages name paths, types and fields, and of values only those
    that stand in place of an enumerated one, which might be a misplaced secret.
    """
    if not isinstance(error, msgspec.ValidationError) or "$" not in str(error):
        return ""
    what, at, path = str(error).rpartition(" - at ")
    return f" [{'unknown value' if what.startswith('Invalid enum value') else what}{at}{path}]"


def _key(name: str, kind: Any) -> Key:
    kinds = list(_parts(kind))
    return Key(
        name=name,
        type=kind,
        expected=_expected(name, kind),
        secret=any(part is Secret for part in kinds) or name == "store.url",
        compound=any(typing.get_origin(part) is tuple for part in kinds),
    )


def _parts(kind: Any) -> Iterator[Any]:
    """A type and all types that it is made of."""
    yield kind
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for inner in typing.get_type_hints(kind, include_extras=True).values():
            yield from _parts(inner)
    elif typing.get_origin(kind) is not typing.Literal:
        for inner in typing.get_args(kind):
            if isinstance(inner, type | types.GenericAlias | types.UnionType) or typing.get_origin(inner):
                yield from _parts(inner)


def _expected(name: str, kind: Any) -> str:
    """What would be right, from the type."""
    if name == "webhooks":
        return "a list of tables with url, secret and events"
    info = msgspec.inspect.type_info(kind)
    return _phrase(info, unit=" of milliseconds" if name.endswith("_ms") or name.startswith("grace.") else "")


def _phrase(info: Any, unit: str) -> str:
    if isinstance(info, msgspec.inspect.UnionType):
        return " or ".join(_phrase(part, unit) for part in info.types if not isinstance(part, msgspec.inspect.NoneType))
    if isinstance(info, msgspec.inspect.IntType):
        return f"a whole number{unit} from {info.ge} to {info.le}"
    if isinstance(info, msgspec.inspect.FloatType):
        low = f"from {info.ge:g}" if info.ge is not None else f"above {info.gt:g}"
        return f"a number {low} to {info.le:g}" if info.ge is not None else f"a number {low}, at most {info.le:g}"
    if isinstance(info, msgspec.inspect.BoolType):
        return "true or false"
    if isinstance(info, msgspec.inspect.LiteralType):
        return f"one of {', '.join(map(str, info.values))}"
    if isinstance(info, msgspec.inspect.VarTupleType):
        return f"a list (in the environment as JSON), each {_phrase(info.item_type, unit)}"
    if isinstance(info, msgspec.inspect.CustomType):
        return "a text that is not empty"
    return "a text of 1 to 512 characters" if getattr(info, "max_length", None) else "a text"
