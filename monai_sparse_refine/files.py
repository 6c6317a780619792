"""Files that are either complete or not there."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_path"]


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write to a temporary name in the same folder; take the real name only once the block has ended well.

    The temporary name is hidden (leading dot) and keeps the suffixes, because writers choose a format by
    them. A missing folder is made. On an exception the temporary file is removed and an older file stays as
    it was.

    Args:
        path: where the finished file belongs; "~" is the home folder.

    Yields:
        The temporary path to write to.
    """
    target = Path(path).expanduser()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex[:8]}.{target.name}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
