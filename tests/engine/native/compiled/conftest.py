"""The tests of the compiled kernels run once, with them, whatever path the tests around them are on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from monai_sparse_refine.engine.native.compiled import build


@pytest.fixture(scope="module", autouse=True)
def kernels() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(build.VARIABLE, raising=False)
        build.library.cache_clear()
        if build.library() is None:
            pytest.skip("there is no C++ compiler")
        yield
    build.library.cache_clear()
