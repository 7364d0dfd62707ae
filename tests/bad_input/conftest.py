"""What the files of the catalogue share: a process that has loaded all, a working directory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bad_input import make_home
from forked import warm


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory of `bad_input.make_home`, with a cache beside it."""
    warm()
    folder = tmp_path_factory.mktemp("bad")
    (folder / "cache").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROPEWALK_CACHE", str(folder / "cache"))
        yield make_home(folder)
