"""Calls into the application: whatever it does, sync or async, slow or failing, it does to itself alone.

A plain function runs in a thread, since nobody knows whether it waits for a database; the threads are the presence's
own, so that hanging ones take none from the application. What fails is counted and logged where it is caught.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter

THREADS = 8

LOG = logging.getLogger("stillhere.embed")


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine; also of an object with an async ``__call__``, and of a partial."""
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def checked(name: str, function: object, *parameters: str) -> Any:
    """Refuse what cannot be called like this.

    Args:
        name: of the option.
        function: what was given; None passes.
        parameters: what it will be called with, by position.

    Returns:
        The function.

    Raises:
        TypeError: with a sentence that says what would be right.
    """
    right = f"it must be a function, sync or async, of {len(parameters)}: ({', '.join(parameters)})"
    if function is None:
        return None
    if not callable(function):
        raise TypeError(f"{name} is {function!r:.80}; {right}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return function  # a builtin that does not tell
    try:
        signature.bind(*parameters)
    except TypeError as error:
        raise TypeError(f"{name} takes {signature}, which does not fit ({error}); {right}") from None
    return function


class Callbacks:
    """Calls the functions of one application."""

    def __init__(self, *, inline: bool = False) -> None:
        """Prepare.

        Args:
            inline: call plain functions on the loop itself: where time is moved by hand, threads would make a mess.
        """
        self._inline = inline
        self._pool: ThreadPoolExecutor | None = None
        self._failures: Counter | None = None

    def count_in(self, registry: CollectorRegistry) -> None:
        """Count failures in the metrics of a node."""
        self._failures = Counter(
            "stillhere_callback_failures",
            "Calls into the application that raised or took too long",
            ["callback", "why"],
            registry=registry,
        )

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call and await it, whatever it is; raises what it raises."""
        if self._inline or is_async(function):
            result = function(*arguments)
        else:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="stillhere-callback")
            context = contextvars.copy_context()
            loop = asyncio.get_running_loop()
            result = await loop.run_in_executor(self._pool, partial(context.run, function, *arguments))
        return await result if inspect.isawaitable(result) else result

    def failed(self, name: str, why: str) -> None:
        """Count a failure.

        Args:
            name: of the option or method that took the callback.
            why: ``raised``, ``late`` or ``wrong``.
        """
        if self._failures is not None:
            self._failures.labels(name, why).inc()

    def close(self) -> None:
        """Take no new calls; whatever hangs is not waited for."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
