"""The one exception for anything that is wrong with what a user hands in."""

from __future__ import annotations

__all__ = ["InputError"]


class InputError(ValueError):
    """A file, mask, volume or set of weights cannot be used as it is.

    The message names the thing, what was found, what was expected and what to do, in one line, so that a
    command-line program can print it as it is instead of a traceback.
    """
