"""``/v1/settings``: what is in force on a node, beside what holds when nothing is said, and where it came from.

Whoever may read the API may read this: nothing secret is in it, and whoever wonders why somebody was shown offline
needs the windows and the limits as much as the timeline. :func:`~stillhere.server.settings.redacted` hides the secrets,
as for ``stillhere config show``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from msgspec import Meta
from starlette.responses import Response

from stillhere.core.words import FINAL_CAUSES, Cause
from stillhere.http.answers import Told
from stillhere.http.call import Call, answer
from stillhere.http.operations import Access, Answer, Operation
from stillhere.server.secrets import REDACTED
from stillhere.server.settings import KEYS, Settings, redacted

DEFAULT = "default"
"""The source of what nobody has set."""

_WINDOWS = frozenset(f"grace.{cause.value}" for cause in Cause if cause not in FINAL_CAUSES)


class SettingInForce(Told, frozen=True):
    """One setting."""

    key: Annotated[str, Meta(description="As in the TOML file: `section.name`.")]
    variable: Annotated[str, Meta(description="Its name in the environment.")]
    value: Annotated[Any, Meta(description="In force; null where it is unset.")]
    default: Annotated[Any, Meta(description="What holds when nothing is said.")]
    changed: Annotated[bool, Meta(description="The value is not the default.")]
    source: Annotated[
        str | None,
        Meta(
            description=(
                f"Where the value came from: a file, a variable, the command line, `grace.profile` or `{DEFAULT}`; "
                "null where nobody knows, as in an application that was given its settings."
            )
        ),
    ]
    secret: Annotated[bool, Meta(description=f"What is secret in the value is `{REDACTED}`.")]


class SettingsInForce(Told, frozen=True):
    """The settings of a node."""

    node: str
    settings: Annotated[list[SettingInForce], Meta(description="By section, in the order of the reference.")]


def settings_in_force(settings: Settings, sources: Mapping[str, str]) -> Iterator[SettingInForce]:
    """All settings, without their secrets.

    Args:
        settings: of a node.
        sources: where each key that was set came from; empty where nobody knows.
    """
    shown, usual = redacted(settings), redacted(Settings())
    for name, key in KEYS.by_name.items():
        value, default = _at(shown, name), _at(usual, name)
        changed = value != default
        source = sources.get(name)
        if source is None and name in _WINDOWS and changed and getattr(settings.grace, name.partition(".")[2]) is None:
            source = "grace.profile"
        elif source is None and not changed:
            source = DEFAULT
        yield SettingInForce(name, key.variable, value, default, changed, source, key.secret)


def _at(shown: Mapping[str, Any], name: str) -> Any:
    section, _, leaf = name.partition(".")
    return shown[section][leaf] if leaf else shown[section]


class SettingsCalls:
    """The call, with what the settings do not say of themselves."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        """Take what is known.

        Args:
            sources: where each key that was set came from; empty where nobody knows.
        """
        self._sources = sources

    async def _settings(self, call: Call) -> Response:
        node = call.api.node
        return answer(SettingsInForce(node.name, list(settings_in_force(node.settings, self._sources))))

    def operations(self) -> tuple[Operation, ...]:
        """What can be called."""
        return (
            Operation(
                method="GET",
                path="/v1/settings",
                handler=self._settings,
                tag="Policy",
                summary="The settings in force",
                description=(
                    "Every setting of this node with its value, its default and where it came from. Secrets, and "
                    f"passwords and queries of URLs, are `{REDACTED}`. The windows are those in force."
                ),
                access=Access.READ,
                answer=Answer(SettingsInForce, example=_EXAMPLE, description="All of them."),
            ),
        )


_EXAMPLE = SettingsInForce(
    "n1",
    [
        SettingInForce(
            "auth.secret", "STILLHERE_AUTH__SECRET", REDACTED, None, True, "STILLHERE_AUTH__SECRET", secret=True
        ),
        SettingInForce(
            "grace.going_away", "STILLHERE_GRACE__GOING_AWAY", 12_000, 8000, True, "stillhere.toml", secret=False
        ),
        SettingInForce("limits.watch", "STILLHERE_LIMITS__WATCH", 1000, 1000, False, DEFAULT, secret=False),
    ],
)
