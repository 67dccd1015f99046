"""The document of the WebSocket protocol: valid, complete, and in agreement with ``docs/protocol.md``."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from stillhere.http.asyncapi import CLIENT_MESSAGES, DOCUMENT, EXAMPLES, list_messages
from stillhere.wire.codes import CloseCode, ErrorCode, advice
from stillhere.wire.messages import SERVER_MESSAGES, Request, decode
from tests.unit.http.stand import Stand, standing

ROOT = Path(__file__).parents[3]
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text("utf-8")
OFFICIAL = ROOT / "web" / "node_modules" / "@asyncapi" / "specs" / "schemas" / "3.0.0-without-$id.json"
"""The schema of the AsyncAPI project, as its package for npm brings it."""

MESSAGES: dict[str, Any] = DOCUMENT["components"]["messages"]
OPERATIONS: dict[str, Any] = DOCUMENT["operations"]


def section(number: str) -> str:
    """A section of the protocol's page."""
    return PROTOCOL.partition(f"### {number} ")[2].partition("\n##")[0]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def resolve(reference: str) -> Any:
    found: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return resolve(found["$ref"]) if set(found) == {"$ref"} else found


def schema_of(name: str) -> dict[str, Any]:
    """The payload of a message as a schema that stands alone."""
    return {**MESSAGES[name]["payload"], "components": {"schemas": DOCUMENT["components"]["schemas"]}}


def told(action: str) -> set[str]:
    """The ``type`` of every message of one direction, replies included."""
    found = set()
    for operation in OPERATIONS.values():
        if operation["action"] == action:
            found |= {resolve(each["$ref"])["name"] for each in operation["messages"]}
        if action == "send" and "reply" in operation:
            found |= {resolve(each["$ref"])["name"] for each in operation["reply"]["messages"]}
    return found


def tags(types: tuple[type[msgspec.Struct], ...]) -> set[str]:
    return {str(kind.__struct_config__.tag) for kind in types}


@pytest.fixture(scope="module")
def official() -> jsonschema_rs.Validator:
    if not OFFICIAL.is_file():
        pytest.skip("the packages of web/ are not installed; `make pages` installs them")
    return jsonschema_rs.validator_for(json.loads(OFFICIAL.read_text("utf-8")))


def test_the_document_is_valid_by_the_official_schema(official: jsonschema_rs.Validator) -> None:
    assert [str(error) for error in official.iter_errors(DOCUMENT)] == []


@pytest.mark.parametrize("path", [("channels", "connection", "messages"), ("operations", "receiveWatch", "action")])
def test_the_official_schema_would_notice(official: jsonschema_rs.Validator, path: tuple[str, ...]) -> None:
    broken = copy.deepcopy(DOCUMENT)
    inner = broken
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = "publish"
    assert not official.is_valid(broken)


def test_every_message_of_the_wire_is_in_the_document() -> None:
    assert tuple(Request.__args__) == CLIENT_MESSAGES
    assert told("receive") == tags(CLIENT_MESSAGES)
    assert told("send") == tags(SERVER_MESSAGES)
    assert len(MESSAGES) == len(CLIENT_MESSAGES) + len(SERVER_MESSAGES) == len(EXAMPLES)


def test_every_reference_leads_somewhere() -> None:
    found = list(references(DOCUMENT))
    assert len(found) > 50
    for reference in found:
        assert isinstance(resolve(reference), dict)


@pytest.mark.parametrize("name", MESSAGES)
def test_every_example_is_what_its_schema_and_the_server_take(name: str) -> None:
    validator = jsonschema_rs.validator_for(schema_of(name))
    examples = [example["payload"] for example in MESSAGES[name]["examples"]]
    assert examples
    assert MESSAGES[name]["summary"]
    for example in examples:
        assert [str(error) for error in validator.iter_errors(example)] == []
        assert not validator.is_valid({**example, "type": "something else"})
        if any(kind.__struct_config__.tag == name for kind in CLIENT_MESSAGES):
            assert msgspec.to_builtins(decode(json.dumps(example).encode()))["type"] == name


@pytest.mark.parametrize(("number", "action"), [("1.2", "receive"), ("1.3", "send")])
def test_the_page_of_the_protocol_names_the_same_messages(number: str, action: str) -> None:
    named = set(re.findall(r'`\{"type":"(\w+)"', section(number)))
    assert named == told(action)


@pytest.mark.parametrize("name", MESSAGES)
def test_the_page_of_the_protocol_names_every_field(name: str) -> None:
    kind = MESSAGES[name]["payload"]["$ref"].rpartition("/")[2]
    fields = set(DOCUMENT["components"]["schemas"][kind]["properties"]) - {"type", "id"}
    direction = "1.3" if name == "serverProbe" or any(k.__name__ == kind for k in SERVER_MESSAGES) else "1.2"
    rows = [line for line in section(direction).splitlines() if f'"type":"{MESSAGES[name]["name"]}"' in line]
    assert rows
    assert [field for field in fields if not any(f'"{field}"' in row for row in rows)] == []


def test_codes_are_those_of_the_wire_and_of_the_page() -> None:
    codes = DOCUMENT["channels"]["connection"]["x-close-codes"]
    assert {code["code"]: code["client"] for code in codes} == {code.value: advice(code).value for code in CloseCode}
    text = section("1.4")
    assert [code.value for code in CloseCode if str(code.value) not in text] == []
    assert [code.value for code in ErrorCode if f"`{code.value}`" not in text] == []
    assert DOCUMENT["components"]["schemas"]["Error"]["properties"]["code"]["enum"] == [c.value for c in ErrorCode]


def test_the_parameters_are_those_of_the_page() -> None:
    properties = DOCUMENT["channels"]["connection"]["bindings"]["ws"]["query"]["properties"]
    named = set(re.findall(r"^\| `(\w+)(?:=1)?` \|", section("1.1"), re.MULTILINE))
    assert set(properties) == named | {"token"}


async def test_it_is_served_with_the_address_that_was_asked(stand: Stand) -> None:
    answer = await stand.client.get("/asyncapi.json")
    assert answer.headers["content-type"] == "application/json"
    served = answer.json()
    assert served["servers"]["here"] == {**DOCUMENT["servers"]["here"], "host": "localhost"}
    assert {**served, "servers": None} == {**DOCUMENT, "servers": None}


async def test_it_can_be_browsed_beside_the_http_api(stand: Stand, tmp_path: Path) -> None:
    answer = await stand.client.get("/docs/websocket")
    assert answer.status_code == 200 and "<script" not in answer.text
    for message in MESSAGES.values():
        assert f"<dt><code>{message['name']}</code></dt>" in answer.text
    assert 'href="docs/websocket"' in (await stand.client.get("/docs")).text
    (tmp_path / "websocket.html").write_text("<p>built</p>")
    async with standing(pages=tmp_path) as other:
        built = await other.client.get("/docs/websocket")
        assert built.text == "<p>built</p>"
        assert "script-src" not in built.headers["content-security-policy"]
        assert "default-src 'self'" in built.headers["content-security-policy"]


def test_the_plain_page_escapes_what_it_shows() -> None:
    assert "&quot;" in list_messages() and "<dd>" in list_messages()
