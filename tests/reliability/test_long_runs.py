"""Long runs do not grow, and the same command twice gives the same bytes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from commands import TINY, command, write_text

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.parametrize(("more", "status"), [([], 0), (["--leak"], 1)])
def test_many_steps_grow_neither_in_memory_nor_in_open_files(more: list[str], status: int) -> None:
    """20,000 of them: python tests/reliability/soak.py; with a leak it would be seen."""
    program = [sys.executable, "soak.py", "--steps", "800", *more]
    done = subprocess.run(program, capture_output=True, text=True, cwd=HERE, timeout=600)
    assert done.returncode == status and "step 799: " in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [("trainer.accelerator=cpu",), pytest.param((), marks=pytest.mark.gpu)]
)
def test_the_same_command_twice_gives_the_same_bytes(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    write_text(tmp_path / "text.txt")
    if not options:
        options = ("trainer.deterministic=true", "compile=true", "model.qk_norm=true")
    options += ("model.dropout=0.2", "data.num_workers=1", "data.path=text.txt")
    for run in ("one", "two"):
        done = command("train.py", *TINY, *options, f"run_dir={run}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    one, two = (
        torch.load(tmp_path / run / "checkpoints/last.ckpt", map_location="cpu")["state_dict"]
        for run in ("one", "two")
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
