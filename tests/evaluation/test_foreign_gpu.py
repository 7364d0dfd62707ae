"""How long the table of a downloaded model takes on a GPU: a random one of SmolLM-135M's shape."""

import json
import random
import time
from pathlib import Path

import pytest
import torch

from commands import command_here
from foreign_folder import write_llama

pytestmark = [pytest.mark.gpu, pytest.mark.slow]
SHAPE = {
    "vocab_size": 49_152,
    "n_layers": 30,
    "d_model": 576,
    "n_heads": 9,
    "n_kv_heads": 3,
    "mlp_hidden": 1536,
    "train_length": 2048,
}
LENGTHS = (2048, 8192, 16_384, 32_768)
METHODS = "none,linear,ntk,yarn,rerope,self-extend,dual-chunk,logn"
MOST_SECONDS = 600


def write_book(path: Path, words: int = 700_000) -> None:
    """Random words of a few letters: more than sixteen passages of the longest length."""
    draw = random.Random(0)
    known = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(1, 7))) for _ in range(5000)]
    path.write_text(" ".join(draw.choices(known, k=words)))


def test_four_lengths_and_eight_methods_take_less_than_ten_minutes(tmp_path: Path) -> None:
    write_llama(tmp_path / "smol", dtype="bfloat16", **SHAPE)
    write_book(tmp_path / "book.txt")
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    done = command_here(
        "evaluate.py",
        "checkpoint=smol",
        "data=text",
        "data.path=book.txt",
        f"lengths=[{','.join(map(str, LENGTHS))}]",
        f"methods=[{METHODS}]",
        "measures=[loss,passkey]",
        "output_dir=found",
        cwd=tmp_path,
    )
    seconds = time.perf_counter() - start
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found/extrapolation.json").read_text())
    assert all(None not in figures["nll"] for figures in found["methods"].values())
    assert not found["unmeasured"] and len(found["measures"]["passkey"]) == 8
    print(done.stdout)
    cells = (tmp_path / "found/cells.jsonl").read_text().splitlines()[1:]
    slowest = sorted(map(json.loads, cells), key=lambda cell: -cell["seconds"])[:12]
    for cell in slowest:
        print({key: value for key, value in cell.items() if key != "figures"})
    peak = torch.cuda.max_memory_allocated() / 2**30
    print(f"{seconds:.0f} s on {torch.cuda.get_device_name()}, {peak:.1f} GiB at most")
    assert seconds < MOST_SECONDS
