"""The one exception for anything that is wrong with what a user hands in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["InputError", "or_exit"]

Result = TypeVar("Result")


class InputError(ValueError):
    """A file, mask, volume or set of weights cannot be used as it is.

    The message names the thing, what was found, what was expected and what to do, in one line, so that a
    command-line program can print it as it is instead of a traceback.
    """


def or_exit(function: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
    """Call a function; on an InputError print its message alone and leave with exit code 1.

    For commands and bundle configurations, where a traceback would bury the one line that matters.
    """
    try:
        return function(*args, **kwargs)
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
