"""Who may call: bearer tokens with a scope, API keys, and for development this machine alone."""

from __future__ import annotations

import inspect
import ipaddress

from stillhere.http.call import Call
from stillhere.http.errors import RETRY_AFTER, Refused
from stillhere.http.operations import Access
from stillhere.server.auth import AuthError, Identity, KeysUnavailable, matching_key
from stillhere.server.origins import OriginPolicy, client_ip

_REALM = 'Bearer realm="stillhere"'
_SCOPES = {Access.READ: frozenset({"read", "admin"}), Access.ADMIN: frozenset({"admin"})}

_LOOPBACK_HOSTS = OriginPolicy(hosts=("localhost",))
"""A page whose name is made to point to this machine (DNS rebinding) is not to get a token."""


async def admit(call: Call) -> None:
    """Let the caller in, or not.

    Raises:
        Refused: 401 without or with bad credentials, 403 where they do not suffice, 503 where they cannot be judged.
    """
    access = call.operation.access
    if access is Access.LOCAL:
        _check_local(call)
    elif access is not Access.OPEN:
        await _check_credentials(call, _SCOPES[access])


async def _check_credentials(call: Call, scopes: frozenset[str]) -> None:
    headers = call.request.headers
    key = headers.get("x-api-key")
    if key is not None:
        if matching_key(key, call.api.node.settings.admin.api_keys) is None:
            raise Refused(401, "the X-API-Key is not one of admin.api_keys", {"WWW-Authenticate": _REALM})
        return
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        needed = "send Authorization: Bearer <token> with the scope admin or read, or X-API-Key"
        raise Refused(401, f"this call needs credentials: {needed}", {"WWW-Authenticate": _REALM})
    identity = await _verify(call, token.strip())
    if scopes.isdisjoint(identity.scopes):
        wanted = " or ".join(sorted(scopes))
        challenge = f'{_REALM}, error="insufficient_scope", scope="{" ".join(sorted(scopes))}"'
        raise Refused(403, f"the token does not have the scope {wanted}", {"WWW-Authenticate": challenge})
    call.expires_at = identity.expires_at


async def _verify(call: Call, token: str) -> Identity:
    """The identity that the token proves."""
    node = call.api.node
    try:
        found = node.authenticator.verify(token, node.now())
        return await found if inspect.isawaitable(found) else found
    except KeysUnavailable as error:
        raise Refused(503, error.message, RETRY_AFTER) from None
    except AuthError as error:
        raise Refused(401, error.message, {"WWW-Authenticate": f'{_REALM}, error="invalid_token"'}) from None


def _check_local(call: Call) -> None:
    """Only programs and pages of this machine may log in as anybody."""
    request = call.request
    host, origin = request.headers.get("host"), request.headers.get("origin")
    remote = client_ip(
        request.client.host if request.client else "", request.headers, call.api.node.settings.server.proxies
    )
    if not _is_loopback(remote):
        raise Refused(403, f"{remote[:64]!r} is not this machine; development calls are for loopback only")
    if not _LOOPBACK_HOSTS.trusts_host(host):
        raise Refused(421, f"the Host {(host or '')[:128]!r} is not this machine; use localhost or 127.0.0.1")
    if origin is not None:
        decision = call.api.node.settings.origins.policy.decide(origin, host, bearer=True)
        if not decision.allowed:
            raise Refused(403, decision.reason)


def _is_loopback(remote: str) -> bool:
    try:
        return ipaddress.ip_address(remote).is_loopback
    except ValueError:
        return False
