"""What the files of the catalogue share: a process that has loaded all, a working directory."""

from pathlib import Path

import pytest

from bad_input import make_home
from forked import warm


@pytest.fixture(scope="session")
def made_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of `bad_input.make_home`, with a cache beside it."""
    warm()
    folder = tmp_path_factory.mktemp("bad")
    (folder / "cache").mkdir()
    return make_home(folder)


@pytest.fixture
def home(made_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, with that cache in use."""
    monkeypatch.setenv("ROPEWALK_CACHE", str(made_home.parent / "cache"))
    return made_home
