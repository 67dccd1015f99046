"""The API document, held against a running server: what it says is so, and what it forbids is refused."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, settings
from schemathesis import GenerationMode
from schemathesis.checks import allow_header_conformance

from stillhere.http.answers import NO_CONTROLS
from stillhere.http.app import build_app
from tests.acceptance.apps.api import make_node, make_token


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Of a running server."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.acceptance.apps.api"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    port = int(process.stdout.readline())
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        assert process.wait(20) == 0


schema = schemathesis.openapi.from_dict(build_app(make_node()).state.document)
calls = schema.exclude(path="/v1/events", method="GET")
"""All but the event stream, which never ends: tests/unit/http/test_events.py looks after it."""


def test_the_server_tells_the_document_that_is_checked_here(url: str) -> None:
    with urllib.request.urlopen(f"{url}/openapi.json", timeout=10) as answer:
        assert json.load(answer) == schema.raw_schema


def as_told(case: schemathesis.Case[Any]) -> bool:
    """Whether a case that is meant to be in order is so: with a pattern and a length, the tool is wrong at times."""
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return True
    return all(re.fullmatch(NO_CONTROLS, unquote(str(value))) for value in (case.path_parameters or {}).values())


@calls.parametrize()
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_the_document_says(case: schemathesis.Case[Any], url: str) -> None:
    assume(as_told(case))
    excluded = []
    if case.path == "/v1/users/query":
        # Allow tells of GET as well, and rightly: somebody may be called "query"
        excluded.append(allow_header_conformance)
    case.headers.pop("X-API-Key", None)  # made up, and it would decide
    case.call_and_validate(
        base_url=url,
        headers={"Authorization": f"Bearer {make_token()}"},
        timeout=10,
        excluded_checks=excluded,
    )
