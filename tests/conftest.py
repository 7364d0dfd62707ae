"""What every test file shares: GPU tests are skipped where there is no GPU."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from commands import write_text


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` on a machine without CUDA, with the reason."""
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA GPU")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory for runs of this process (`runs.fit`): a text.txt, and a cache of its own."""
    home = tmp_path_factory.mktemp("home")
    write_text(home / "text.txt", lines=100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROPEWALK_CACHE", str(home / "cache"))
        yield home
