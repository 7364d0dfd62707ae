"""Windows that grow: the same tokens in every batch, a pure function of the step."""

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import TextDataModule
from data.batches import batch
from data.warmup import Growth, growth_problems


@given(st.integers(0, 8), st.integers(1, 9), st.integers(1, 1000))
def test_windows_double_up_to_their_length(doublings: int, odd: int, steps: int) -> None:
    growth = Growth(odd << doublings, 4, odd if doublings else None, steps)
    lengths, counts = zip(*map(growth.at, range(steps + 2)), strict=True)
    assert all(a * b == growth.seq_len * 4 for a, b in zip(lengths, counts, strict=True))
    assert list(lengths) == sorted(lengths) and lengths[steps:] == (growth.seq_len,) * 2
    twice = all(late in (early, 2 * early) for early, late in pairwise(lengths))
    assert twice or steps < doublings
    assert lengths[0] == odd
    if doublings:  # each length for as many steps, but for rounding
        stages = [lengths[:steps].count(odd << i) for i in range(doublings)]
        assert max(stages) - min(stages) <= 1


def test_the_schedule() -> None:
    growth = Growth(256, 8, 32, 6)
    assert [growth.at(step) for step in range(8)] == [
        *[(32, 64)] * 2,
        *[(64, 32)] * 2,
        *[(128, 16)] * 2,
        *[(256, 8)] * 2,
    ]


def test_batches_follow_the_optimizer_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With accumulation, and from the middle on."""
    monkeypatch.setenv("ROPEWALK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text("".join(f"{i:05}" for i in range(1000)))
    options = {"warmup_seq_len": 4, "warmup_steps": 4, "seq_len": 16, "batch_size": 2, "seed": 5}
    module = TextDataModule("text", str(tmp_path / "text.txt"), **options)
    module.trainer = SimpleNamespace(global_step=1, max_steps=6, accumulate_grad_batches=2)
    seen = list(module.train_dataloader())
    assert [tuple(inputs.shape) for inputs, _ in seen] == [
        *[(8, 4)] * 2,
        *[(4, 8)] * 4,
        *[(2, 16)] * 4,
    ]
    for number, windows in enumerate(seen, start=2):
        batch_size, seq_len = windows[0].shape
        shape = {"tokens": module.train_tokens, "seq_len": seq_len, "batch_size": batch_size}
        assert all(map(np.array_equal, windows, batch(5, number, **shape)))
    assert {tuple(inputs.shape) for inputs, _ in module.val_dataloader()} == {(2, 16)}


@pytest.mark.parametrize(
    "start, seq_len, works",
    [
        *[(start, 256, "32") for start in (85, 100, 256, 512)],
        *[(16, 48, "6"), (3, 9, "null"), (5, 6, "3")],
    ],
)
def test_lengths_that_do_not_double_are_refused(start: int, seq_len: int, works: str) -> None:
    (line,) = growth_problems({"warmup_seq_len": start, "seq_len": seq_len})
    assert line == (
        f"data.warmup_seq_len={start}: must be data.seq_len={seq_len} halved once or more, so that "
        f"windows can double up to it; try data.warmup_seq_len={works}"
    )
    if works != "null":
        assert not growth_problems({"warmup_seq_len": int(works), "seq_len": seq_len})


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"warmup_seq_len": 0}, "data.warmup_seq_len=0: must be null or an integer of at least 1"),
        ({"warmup_seq_len": True}, "data.warmup_seq_len=True: must be null or"),
        ({"warmup_steps": 0}, "data.warmup_steps=0: must be an integer of at least 1"),
        ({"document_mask": 1}, "data.document_mask=1: must be true or false"),
    ],
)
def test_wrong_values_are_refused(settings: dict, said: str) -> None:
    with pytest.raises(ValueError) as error:
        TextDataModule(**settings)
    assert str(error.value).startswith(said) and len(str(error.value).splitlines()) == 1
