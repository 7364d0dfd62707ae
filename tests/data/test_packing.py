"""Documents in windows: where they begin, that nothing else changes, that few shapes come of it."""

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data import TextDataModule
from data.batches import IGNORED, batch, validation_batch
from data.packing import holds, packed
from model import Transformer, TransformerConfig
from training.module import IGNORED as IGNORED_IN_TRAINING

SEPARATOR = 0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Texts of 30 documents, 5 to 150 bytes long."""
    monkeypatch.setenv("ROPEWALK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "docs").mkdir()
    for i in range(30):
        (tmp_path / "docs" / f"{i}.txt").write_text(f"doc {i}" + f" {i}" * (5 * (i % 10)))
    return tmp_path / "docs"


def module_of(folder: Path, **options: object) -> TextDataModule:
    return TextDataModule("text", str(folder), **{"seq_len": 16, "batch_size": 4, **options})


def test_a_separator_begins_the_document_that_follows_it() -> None:
    inputs = np.array([[7, 7, 0, 8], [0, 9, 9, 0]])
    row, targets, cu_seqlens = packed(inputs, inputs + 1, SEPARATOR)
    assert row is inputs and targets.tolist() == [[8, 8, 1, 9], [1, 10, 10, 1]]
    assert cu_seqlens.tolist() == [0, 2, 4, 7, 8]
    assert cu_seqlens.dtype == np.int32


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5), st.integers(1, 9), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_documents_are_those_between_separators_and_borders(
    batch_size: int, seq_len: int, seed: int, density: float
) -> None:
    draw = np.random.default_rng(seed)
    inputs = np.where(draw.random((batch_size, seq_len)) < density, SEPARATOR, 5)
    _, _, cu_seqlens = packed(inputs, inputs, SEPARATOR)
    row = inputs.reshape(-1)
    bounds = [(a, b) for a, b in pairwise(cu_seqlens.tolist()) if a < b]
    expected = []
    for start in range(0, row.size, seq_len):
        for at in range(start, start + seq_len):
            if at == start or row[at] == SEPARATOR:
                expected.append(at)
    assert [a for a, _ in bounds] == expected and bounds[-1][1] == row.size
    times, rest = divmod(len(cu_seqlens) - 1, 2 * batch_size)
    assert not rest and times & (times - 1) == 0  # 2 B, 4 B, 8 B: few shapes for a compiled graph


def test_what_fills_a_validation_up_is_one_document() -> None:
    assert IGNORED == IGNORED_IN_TRAINING
    tokens = np.array([3, 0, 4, 0, 5, 6], dtype=np.uint8)
    windows = validation_batch(0, tokens=tokens, seq_len=4, batch_size=2)
    assert windows[0].tolist() == [[3, 0, 4, 0], [5, 0, 0, 0]]
    assert packed(*windows, SEPARATOR)[2].tolist() == [0, 1, 3, 4, 8]


def test_a_token_is_found_in_any_block() -> None:
    tokens = np.full(10, 5, dtype=np.uint8)
    tokens[9] = 0
    assert [holds(tokens, 0, block) for block in (1, 4, 10, 100)] == [True] * 4
    assert not holds(tokens[:9], 0, 4)


def test_windows_are_the_same_tokens_as_without(folder: Path) -> None:
    plain, masked = (module_of(folder, document_mask=on, seed=3) for on in (False, True))
    for module in (plain, masked):
        module.trainer = SimpleNamespace(max_steps=20, accumulate_grad_batches=1)
    documents = 0
    for loader in ("train_dataloader", "val_dataloader"):
        pairs = zip(getattr(plain, loader)(), getattr(masked, loader)(), strict=True)
        for (inputs, targets), (row, scored, cu_seqlens) in pairs:
            assert torch.equal(inputs, row) and torch.equal(targets, scored)
            assert cu_seqlens.dtype == torch.int32 and cu_seqlens[-1] == row.numel()
            documents += int((cu_seqlens.diff() > 0).sum()) - len(inputs)
    assert documents > 10  # more than windows


@pytest.mark.parametrize("num_workers", [0, 2])
def test_packed_batches_are_pure_functions(folder: Path, num_workers: int) -> None:
    module = module_of(folder, document_mask=True, num_workers=num_workers, seed=5)
    module.trainer = SimpleNamespace(
        global_step=3, max_steps=6, accumulate_grad_batches=2, global_rank=1
    )
    seen = list(module.train_dataloader())
    assert len(seen) == 6
    for number, (row, targets, cu_seqlens) in enumerate(seen, start=6):
        windows = batch(5, number, 1, tokens=module.train_tokens, seq_len=16, batch_size=4)
        expected = packed(*windows, SEPARATOR)
        assert all(map(np.array_equal, (row, targets, cu_seqlens), expected))


def test_nothing_of_another_document_is_read(folder: Path) -> None:
    """Through the model: what stands before a separator changes nothing behind it."""
    module = module_of(folder, document_mask=True, seq_len=64, batch_size=2)
    windows, _, cu_seqlens = next(iter(module.train_dataloader()))
    row = windows.view(1, -1)
    net = Transformer(TransformerConfig(vocab_size=256, n_layers=2, d_model=16, n_heads=2)).eval()
    bounds = pairwise(cu_seqlens.tolist())
    start, end = next((a, b) for a, b in bounds if a and b - a > 2 and row[0, a] == SEPARATOR)
    other = row.clone()
    other[0, :start], other[0, end:] = 65, 66
    with torch.no_grad():
        one, two = (net(x, cu_seqlens=cu_seqlens)[0, start:end] for x in (row, other))
        unmasked = net(other)[0, start:end]
    assert torch.equal(one, two)
    assert not torch.allclose(one, unmasked)


@pytest.mark.parametrize("tokenizer", ["byte", "char"])
def test_a_single_document_is_refused(folder: Path, tokenizer: str) -> None:
    path = str(folder / "9.txt")
    module = module_of(Path(path), document_mask=True, tokenizer=tokenizer, seq_len=4)
    with pytest.raises(ValueError) as error:
        module.prepare()
    assert str(error.value) == (
        f"data.document_mask=true: data.path={path} is a single document, so that there is "
        "nothing to mask; use data.document_mask=false"
    )


def test_subwords_are_told_apart_by_their_own_separator(folder: Path) -> None:
    module = module_of(folder, document_mask=True, tokenizer="bpe", vocab_size=270, batch_size=16)
    windows, _, cu_seqlens = next(iter(module.train_dataloader()))
    separator = module.tokenizer.separator
    assert module.separator == separator
    starts = [int(a) for a, b in pairwise(cu_seqlens) if a < b]
    row = windows.flatten()
    assert starts == [i for i in range(len(row)) if i % 16 == 0 or row[i] == separator]
    assert len(starts) > len(windows)
