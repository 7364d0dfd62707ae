"""What every test file shares: one thread in each process, GPU tests skipped without a GPU."""

import os

# Read when torch is imported, here and in the processes that tests start. Inductor's own processes
# would have to import torch first, which takes longer than what the tests compile.
os.environ |= {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the Hub

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from commands import write_text


def pytest_xdist_auto_num_workers() -> int | None:
    """No worker processes beside a GPU: its tests would disturb each other's times."""
    return 0 if torch.cuda.is_available() else None


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
