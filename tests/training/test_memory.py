"""Models and batches that no memory holds are refused before any of it is made."""

import pytest
import torch

from model.config import TransformerConfig
from training.memory import device_memory, memory_problems

CPU = torch.device("cpu")


def problems(
    batch_size: int = 8, seq_len: int = 64, precision: str = "auto", **model: int
) -> list[str]:
    config = {"data": {"batch_size": batch_size, "seq_len": seq_len}}
    config["trainer"] = {"precision": precision}
    return memory_problems(config, TransformerConfig(**model), CPU)


def test_an_ordinary_run_fits() -> None:
    assert device_memory(CPU) > 2**28
    assert problems() == []


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"batch_size": 10**12}, "data.batch_size=1000000000000"),
        ({"seq_len": 10**12}, "data.seq_len=1000000000000"),
        ({"d_model": 2**20, "n_heads": 2**14, "n_layers": 1000}, "model.d_model=1048576"),
    ],
)
def test_what_never_fits_is_refused(settings: dict, key: str) -> None:
    assert any(key in line and "GiB" in line and "try" in line for line in problems(**settings))
