"""A text of any size takes a bounded amount of memory, and tokens of any number are reached."""

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from commands import ROOT
from data import CharTokenizer, TextDataModule
from data.batches import batch, validation_batch

BOUND = 24 * 2**20  # bytes, whatever the size of the text
LINE = "A naïve rope — laid straight, and bent again. "


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROPEWALK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def written(path: Path, size: int) -> Path:
    """A text of `size` bytes or a little more."""
    part = (LINE * (2**20 // len(LINE))).encode()
    with open(path, "wb") as file:
        for _ in range(-(-size // len(part))):
            file.write(part)
    return path


def peak(work: Callable[[], object]) -> int:
    """The most bytes that are allocated at one time in `work`."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("tokenizer", ["byte", "char"])
def test_memory_does_not_grow_with_the_text(tmp_path: Path, tokenizer: str) -> None:
    modules = [
        TextDataModule("text", str(written(tmp_path / f"{size}", size)), tokenizer)
        for size in (4 * 2**20, 20 * 2**20)
    ]
    small, large = (peak(module.prepare) for module in modules)
    assert large < BOUND
    assert large - small < 2**20
    loader = iter(modules[1].train_dataloader())
    next(loader)
    assert peak(lambda: [next(loader) for _ in range(20)]) < 2**20


def records(path: Path, count: int) -> Path:
    """So many short records, as JSON Lines or Parquet by the suffix."""
    if path.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        pyarrow = pytest.importorskip("pyarrow")
        schema = pyarrow.schema([("text", pyarrow.string())])
        with parquet.ParquetWriter(path, schema) as writer:
            for start in range(0, count, 10**6):
                part = [f"{i} {LINE}" for i in range(start, min(start + 10**6, count))]
                writer.write_table(pyarrow.table({"text": part}), row_group_size=len(part))
        return path
    with open(path, "w") as file:
        file.writelines(f'{{"text": "{i} {LINE}"}}\n' for i in range(count))
    return path


def test_memory_does_not_grow_with_the_number_of_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All there may be of each is where it begins and ends in the validation split."""
    for module in ("cache", "documents"):
        monkeypatch.setattr(f"data.{module}.BLOCK", 1 << 14)
    files = [records(tmp_path / f"{count}.jsonl", count) for count in (1_000, 7_000)]
    small, large = (peak(TextDataModule("text", str(file)).prepare) for file in files)
    assert (large - small) / 6_000 < 8  # bytes


def test_the_text_at_once_would_not_pass(tmp_path: Path) -> None:
    """The control: what the bound is held against."""
    file = written(tmp_path / "text", 20 * 2**20)
    assert peak(lambda: CharTokenizer(LINE).encode(file.read_text())) > 4 * BOUND


def test_tokens_past_two_to_the_31(tmp_path: Path) -> None:
    """A sparse file of 5 GiB, with something to read at its end alone."""
    path, size = tmp_path / "tokens", 5 * 2**30
    with open(path, "wb") as file:
        file.truncate(size)
        file.seek(size - 2**20)
        file.write(np.arange(2**18, dtype="<u4").tobytes())
    tokens = np.memmap(path, np.uint8, "r")
    step = next(s for s in range(10_000) if start(s, size) >= size - 2**20)
    inputs, targets = batch(0, step, tokens=tokens, seq_len=16, batch_size=1)
    at = start(step, size)
    with open(path, "rb") as file:
        file.seek(at)
        expected = file.read(17)
    assert any(expected) and bytes(inputs[0].astype(np.uint8)) == expected[:16]
    assert bytes(targets[0].astype(np.uint8)) == expected[1:]

    last = (size - 2) // 16
    inputs, targets = validation_batch(last, tokens=tokens, seq_len=16, batch_size=1)
    tail = np.arange(2**18 - 4, 2**18, dtype="<u4").tobytes()
    assert bytes(inputs[0].astype(np.uint8)) == tail
    assert targets[0].tolist() == [*tail[1:], -100]


def start(step: int, size: int) -> int:
    """Where the one window of a batch begins, in Python's integers."""
    return int(np.random.Philox(key=0, counter=[0, 0, 0, step]).random_raw(1)[0]) % (size - 16)


TWICE = """
import json, sys, time
from data.module import TextDataModule

def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key)) * 1024

module = TextDataModule("text", *sys.argv[1:])
before, began = status("VmRSS"), time.monotonic()
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak counts from here
module.prepare()
seconds, grown = time.monotonic() - began, status("VmHWM") - before
loader = iter(module.train_dataloader())
next(loader)
own = status("RssAnon")
for _ in range(1000):
    next(loader)
print(json.dumps([seconds, grown, status("RssAnon") - own, module.fingerprint]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_subwords_of_a_longer_text_take_no_more(tmp_path: Path) -> None:
    """The whole process, as the library's memory is none of Python's."""
    files = [written(tmp_path / f"{size}.txt", size * 2**20) for size in (12, 60)]
    small, large = (peak_of_process(file, "bpe")[1] for file in files)
    print(small, large)
    assert large < 250 * 10**6
    assert large - small < 30 * 10**6


def peak_of_process(file: Path, tokenizer: str) -> list:
    """Seconds and bytes of a start, bytes that batches took, and what was read."""
    command = [sys.executable, "-c", TWICE, str(file), tokenizer]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(ended.stdout.splitlines()[-1])


def check_two_starts(file: Path, tokenizer: str, bound: float) -> None:
    """The peak of the whole process, and a second start that reads nothing."""
    os.utime(file, (1_700_000_000, 1_700_000_000))
    try:
        first, second = (peak_of_process(file, tokenizer) for _ in range(2))
    finally:
        file.unlink()
        shutil.rmtree(file.parent / "cache", ignore_errors=True)
    print(file.name, tokenizer, first, second)
    for _, grown, own, _ in (first, second):
        assert grown < bound
        assert own < 4 * 10**6
    assert second[0] < 2 and second[3] == first[3]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("tokenizer", ["byte", "char"])
def test_two_gigabytes(tmp_path: Path, tokenizer: str) -> None:
    if shutil.disk_usage(tmp_path).free < 6 * 10**9:
        pytest.skip("needs 6 GB of disk")
    check_two_starts(written(tmp_path / "big.txt", 2 * 10**9), tokenizer, 64e6)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("name", ["big.jsonl", "big.parquet"])
def test_millions_of_records(tmp_path: Path, name: str) -> None:
    """270 MB of text; pyarrow by itself takes some memory."""
    if shutil.disk_usage(tmp_path).free < 3 * 10**9:
        pytest.skip("needs 3 GB of disk")
    check_two_starts(records(tmp_path / name, 5 * 10**6), "byte", 144e6)
