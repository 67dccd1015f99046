"""What can go wrong between an application and the presence inside it::

NotAuthenticated (AuthError)   raise it in ``authenticate``: 401, and the client reads your sentence
TooSlow (AuthError)            ``authenticate`` took longer than a handshake may: 503
HostFailed (RuntimeError)      ``authenticate`` raised something else or returned no identity: 500; the log says why
NotRunning (RuntimeError)      asked before the start or after the stop
"""

from __future__ import annotations

from stillhere.server.auth import AuthError, KeysUnavailable


class NotAuthenticated(AuthError):
    """Nobody is let in: 401, with the message of this error."""


class TooSlow(KeysUnavailable):
    """The application did not say in time who this is: 503, and the client tries again."""


class HostFailed(RuntimeError):
    """The application could not say who this is: 500, without a word about why; the log has it."""


class NotRunning(RuntimeError):
    """The presence has not been started, or was stopped."""
