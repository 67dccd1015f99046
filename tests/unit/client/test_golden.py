"""The transcripts that the TypeScript client follows, followed by this one: two clients, one behaviour.

Left out are those in which a browser's page does something that no program does: it is hidden, sleeps, or is touched.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stillhere.client.errors import ClientError
from tests.unit.client.world import Json, World

FOLDER = Path(__file__).parents[3] / "clients" / "typescript" / "test" / "golden"

OF_BROWSERS = {
    "token-not-judged": "as token-refused: a token in a header that cannot be judged now is answered with 503",
    "token-refused": "a browser cannot see the HTTP status of a refused upgrade and has to guess; here it is known",
}

DRIVABLE = {"at", "call", "args", "opened", "receive", "closed", "token", "page"}


def transcripts() -> dict[str, Json]:
    read = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}
    return {name: one for name, one in read.items() if name not in OF_BROWSERS and is_drivable(one)}


def is_drivable(transcript: Json) -> bool:
    inputs: list[Json] = transcript["inputs"]
    return (
        not transcript.get("options")
        and all(set(one) <= DRIVABLE for one in inputs)
        and all(one.get("page", "online") == "online" for one in inputs)
        and not any(output.get("send", {}).get("availability") == "away" for output in transcript["outputs"])
    )


TRANSCRIPTS = transcripts()


class Driver:
    """Puts inputs into a world; numbers request ids in the order in which they were sent, as the transcripts do."""

    def __init__(self, dice: float) -> None:
        self.world = World(dice=dice)
        self.ids: list[int] = []

    def drive(self, inputs: list[Json]) -> list[Json]:
        for one in inputs:
            self.world.advance(one["at"] / 1000)
            self.number()
            self.put(one)
            self.number()
        return self.world.outputs

    def put(self, one: Json) -> None:
        world = self.world
        if "token" in one:
            world.token = RuntimeError("no") if one["token"] == "fails" else one["token"]
        if "call" in one:
            self.call(one["call"], one.get("args", []))
            world.flush()
        if "opened" in one:
            world.open(one["opened"])
        if "receive" in one:
            message = dict(one["receive"])
            if isinstance(message.get("id"), str):
                message["id"] = self.ids[int(message["id"][1:]) - 1]
            world.receive(message)
        if "closed" in one:
            world.end(*one["closed"])
        if "page" in one:
            world.machine.network_changed(world.now)
        world.settle()

    def call(self, name: str, args: list[Any]) -> None:
        machine, wants = self.world.machine, self.world.machine.talk.wants
        match name, args:
            case "connect", []:
                machine.connect(self.world.now)
            case "disconnect", []:
                machine.disconnect(self.world.now)
            case "watch", [users]:
                wants.watch([users] if isinstance(users, str) else users)
            case "unwatch", [users]:
                wants.unwatch([users] if isinstance(users, str) else users)
            case "join", [room, *meta]:
                wants.join(room, meta[0] if meta else None)
            case "leave", [room]:
                wants.leave(room)
            case "setMeta", [patch]:
                wants.set_meta(patch)
            case "setAvailability", [availability]:
                machine.set_availability(availability)
            case _:
                raise AssertionError(f"the driver does not know {name}{args}")

    def number(self) -> None:
        for output in self.world.outputs:
            message = output.get("send", {})
            if isinstance(message.get("id"), int):
                self.ids.append(message["id"])
                message["id"] = f"${len(self.ids)}"


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the TypeScript client is not part of this tree")
def test_most_transcripts_are_followed() -> None:
    assert len(TRANSCRIPTS) >= 20


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_the_machine_does_what_the_transcript_says(name: str) -> None:
    transcript = TRANSCRIPTS[name]
    done = Driver(transcript["random"]).drive(transcript["inputs"])
    assert done == transcript["outputs"], transcript["about"]


def test_every_error_has_a_code_and_says_what_to_do() -> None:
    kinds = [ClientError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    leaves = [kind for kind in kinds if not kind.__subclasses__() and kind.__module__.startswith("stillhere.client")]
    assert len(leaves) > 15
    for kind in leaves:
        assert kind.code, kind
        assert kind.advice or kind.__name__ in ("RequestRefused", "BadCall"), kind
