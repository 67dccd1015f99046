"""The HTTP application of a node: the API, the event stream, health and metrics, and the pages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from stillhere.http import asyncapi, events, nodes, rooms, service, stats, timelines, users, webhooks
from stillhere.http import dev as development
from stillhere.http.call import Api
from stillhere.http.dev import DevMode
from stillhere.http.errors import Refused, tell
from stillhere.http.events import StreamLimits, Streams
from stillhere.http.openapi import build_document
from stillhere.http.pages import FOLDER, Pages
from stillhere.http.policy import PolicyCalls
from stillhere.http.routing import Table
from stillhere.http.settings import SettingsCalls
from stillhere.http.shell import Shell
from stillhere.http.stats import Rates
from stillhere.server.node import Node
from stillhere.server.origins import OriginPolicy
from stillhere.store.contract import StoreError

__all__ = ["DevMode", "StreamLimits", "build_app"]


def build_app(
    node: Node,
    *,
    dev: DevMode | None = None,
    streams: StreamLimits | None = None,
    pages: Path = FOLDER,
    sources: Mapping[str, str] | None = None,
) -> Starlette:
    """Make the application.

    Args:
        node: of which it tells. The application neither starts nor stops it.
        dev: adds the calls and the demo page of the development server.
        streams: bounds of ``/v1/events``.
        pages: where the built pages are.
        sources: where each setting that was set came from; None where nobody knows.

    Returns:
        The application; ``state.document`` is its API document.
    """
    api = Api(node, dev, Streams(node, streams or StreamLimits()), Rates(node.monotonic()))
    operations = [
        *users.OPERATIONS,
        *timelines.OPERATIONS,
        *rooms.OPERATIONS,
        *events.OPERATIONS,
        *nodes.OPERATIONS,
        *stats.OPERATIONS,
        *PolicyCalls().operations(),
        *SettingsCalls(sources or {}).operations(),
        *service.OPERATIONS,
        *asyncapi.OPERATIONS,
        *webhooks.OPERATIONS,
        *(development.OPERATIONS if dev is not None else ()),
    ]
    api.document = build_document(
        operations, queries=node.settings.limits.queries, longest_ms=node.settings.grace.max_ms
    )
    operations += Pages(pages, api.document).operations(dev=dev is not None)
    app = Starlette(
        routes=[Table(api, operations)],
        middleware=[Middleware(Shell, policy=_hosts(node, dev))],
        exception_handlers={Refused: tell, HTTPException: tell, StoreError: tell},
    )
    app.router.redirect_slashes = False
    app.state.document = api.document
    return app


def _hosts(node: Node, dev: DevMode | None) -> OriginPolicy:
    """Which hosts the server is; the development server is this machine, whatever a page's name is made to point to."""
    origins = node.settings.origins
    if dev is not None and not origins.hosts:
        return OriginPolicy(origins.allowed, hosts=("localhost",))
    return origins.policy
