"""Imports MinkowskiEngine 0.5.4 under a current Python, or says how to install it."""

from __future__ import annotations

import collections
import importlib
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from monai_sparse_refine.engine import EngineNotFoundError

INSTALL_COMMAND = "python -m monai_sparse_refine.engine.install"


@contextmanager
def _what_the_import_needs() -> Iterator[None]:
    """``collections.Sequence``, which left Python in 3.10, and one BLAS thread; both only while importing."""
    lacks_sequence = "Sequence" not in vars(collections)
    lacks_threads = "OPENBLAS_NUM_THREADS" not in os.environ
    if lacks_sequence:
        vars(collections)["Sequence"] = Sequence
    if lacks_threads:
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The MinkowskiEngine was compiled with CPU_ONLY")
            yield
    finally:
        if lacks_sequence:
            del vars(collections)["Sequence"]
        if lacks_threads:
            del os.environ["OPENBLAS_NUM_THREADS"]


def import_library() -> Any:
    """The library's own module, unguarded.

    Raises:
        EngineNotFoundError: it is not installed, or does not import; the message says what to do.
    """
    try:
        with _what_the_import_needs():
            return importlib.import_module("MinkowskiEngine")
    except ModuleNotFoundError as error:
        if error.name != "MinkowskiEngine":
            raise EngineNotFoundError(
                f"MinkowskiEngine needs {error.name}. Reinstall: {INSTALL_COMMAND}"
            ) from error
        raise EngineNotFoundError(
            f"MinkowskiEngine is not installed. Build it against the installed torch: {INSTALL_COMMAND} "
            '(or use the native engine: name "native", or "auto").'
        ) from error
    except Exception as error:  # a build for another torch fails in the loader, in many ways
        raise EngineNotFoundError(
            f"MinkowskiEngine is installed but does not import ({error}). It was probably built for another "
            f"torch than {torch.__version__}. Rebuild: {INSTALL_COMMAND} --force"
        ) from error
