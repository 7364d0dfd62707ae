"""Batches and the data module: pure functions of numbers, every validation target once."""

import inspect
import itertools
import multiprocessing
import os
import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import OmegaConf

from commands import ROOT
from data import TextDataModule
from data.batches import batch, count_validation_batches, validation_batch

TOKENS = np.arange(10_000, dtype=np.uint16)  # every token tells its position
SHAPE = {"tokens": TOKENS, "seq_len": 16, "batch_size": 4}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROPEWALK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """A text of 5,000 bytes, 4,500 of them for training, whose windows are all different."""
    file = tmp_path / "text.txt"
    file.write_text("".join(f"{i:05}" for i in range(1000)))
    return file


def text_module(file: Path, **settings: object) -> TextDataModule:
    return TextDataModule("text", str(file), **{"seq_len": 16, "batch_size": 4, **settings})


def batches_equal(first: tuple, second: tuple) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


# --- training batches -----------------------------------------------------------------------


def test_targets_are_the_inputs_one_ahead() -> None:
    inputs, targets = batch(7, 3, **SHAPE)
    assert inputs.shape == targets.shape == (4, 16)
    assert inputs.dtype == targets.dtype == np.int64
    assert np.array_equal(targets, inputs + 1)  # tokens are positions
    assert np.array_equal(inputs, inputs[:, :1] + np.arange(16))


def test_a_batch_hangs_on_seed_step_and_rank_alone() -> None:
    places = list(itertools.product((0, 1, 2**40), (0, 1, 10**6), (0, 1, 7)))
    forwards = [batch(*place, **SHAPE) for place in places]
    backwards = [batch(*place, **SHAPE) for place in reversed(places)]
    assert all(map(batches_equal, forwards, reversed(backwards)))
    assert len({inputs.tobytes() for inputs, _ in forwards}) == len(places)


def philox(key: int, counter: list[int]) -> list[int]:
    """Philox4x64-10 as Salmon et al. write it (SC 2011, section 3.3), in Python's integers."""
    (a, b, c, d), k0, k1, word = counter, key % 2**64, key >> 64, 2**64
    for _ in range(10):
        left, right = 0xD2E7470EE14C6C93 * a, 0xCA5A826395121157 * c
        a, b, c, d = right // word ^ b ^ k0, right % word, left // word ^ d ^ k1, left % word
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) % word, (k1 + 0xBB67AE8584CAA73B) % word
    return [a, b, c, d]


@pytest.mark.parametrize("seed, step, rank", [(0, 0, 0), (1, 2, 3), (2**100, 10**9, 511)])
def test_batches_are_the_same_in_every_release(seed: int, step: int, rank: int) -> None:
    """Whatever numpy does, a run that is resumed goes on with the same data."""
    expected = [bits % (10_000 - 16) for bits in philox(seed, [1, 0, rank, step])]
    assert batch(seed, step, rank, **SHAPE)[0][:, 0].tolist() == expected


def test_windows_start_everywhere_alike() -> None:
    shape = {"tokens": np.arange(20), "seq_len": 10, "batch_size": 10_000}
    starts = Counter(batch(0, 0, **shape)[0][:, 0].tolist())
    assert sorted(starts) == list(range(10))  # the last window ends on the last token
    chi_squared = sum((count - 1000) ** 2 / 1000 for count in starts.values())
    assert chi_squared < 27.9  # 9 degrees of freedom, p = 0.001


def test_a_text_of_one_window() -> None:
    inputs, targets = batch(0, 0, tokens=np.arange(17), seq_len=16, batch_size=2)
    assert inputs.tolist() == [list(range(16))] * 2 and targets[0, -1] == 16


# --- validation batches ---------------------------------------------------------------------


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("n_tokens", [17, 18, 32, 33, 34, 65, 64 * 4 + 1, 1000])
def test_every_target_counts_once(n_tokens: int, world_size: int) -> None:
    shape = {"seq_len": 16, "batch_size": 4}
    count = count_validation_batches(n_tokens, world_size=world_size, **shape)
    seen = Counter()
    for index, rank in itertools.product(range(count), range(world_size)):
        inputs, targets = validation_batch(
            index, rank, world_size, tokens=TOKENS[:n_tokens], **shape
        )
        assert inputs.shape == targets.shape == (4, 16)
        assert inputs.dtype == targets.dtype == np.int64
        real = targets != -100
        assert np.array_equal(targets[real], inputs[real] + 1)
        assert not inputs[~real].any()
        seen.update(targets[real].tolist())
    assert seen == Counter(range(1, n_tokens))
    # One batch less on every rank would not do.
    assert (count - 1) * 16 * 4 * world_size < n_tokens - 1


def test_ranks_share_the_last_windows() -> None:
    """With at least as many windows as ranks no rank ends up with nothing to count."""
    for rank in range(4):
        _, targets = validation_batch(
            0, rank, 4, tokens=TOKENS[: 16 * 4 + 1], seq_len=16, batch_size=4
        )
        assert (targets != -100).sum() == 16


# --- the data module ------------------------------------------------------------------------


def test_prepare(text_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    module = text_module(text_file, val_tokens=100)
    module.prepare()
    tokens = module.train_tokens
    module.prepare()
    module.prepare_data()
    module.setup("fit")
    assert module.train_tokens is tokens
    assert isinstance(tokens, np.memmap)
    assert bytes(tokens) == text_file.read_bytes()[:4500]
    assert bytes(module.val_tokens_array) == text_file.read_bytes()[4500:4600]
    assert [bytes(document) for document in module.val_documents] == [text_file.read_bytes()[4500:]]
    assert module.vocab_size == module.tokenizer.vocab_size == 256
    assert module.fingerprint["n_train_tokens"] == 4500
    assert module.fingerprint["n_val_tokens"] == 100
    assert set(module.fingerprint) == {
        *("corpus", "sha256", "tokenizer", "n_train_tokens", "n_val_tokens")
    }
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("tokenizer", ["byte", "char"])
def test_documents_are_joined_and_told_apart(tmp_path: Path, tokenizer: str) -> None:
    for i in range(30):
        (tmp_path / f"{i}.txt").write_text(f"Document number {i}. " * 20)
    module = TextDataModule("text", str(tmp_path), tokenizer, seq_len=16)
    module.prepare()
    decode = module.tokenizer.decode
    documents = [decode(document) for document in module.val_documents]
    assert len(documents) == 3
    assert all(
        text == (tmp_path / f"{text.split('.')[0].split()[-1]}.txt").read_text()
        for text in documents
    )
    assert decode(module.val_tokens_array) == "\0".join(documents)
    assert decode(module.train_tokens).count("\0") == 30 - 3 - 1
    assert module.tokenizer.token_bytes[module.tokenizer.encode("\0")].tolist() == [1]


def test_one_document_has_no_separator_in_its_vocabulary(text_file: Path) -> None:
    module = text_module(text_file, tokenizer="char")
    module.prepare()
    assert module.vocab_size == 10


def test_train_loader_is_the_pure_function(text_file: Path) -> None:
    module = text_module(text_file, seed=5)
    module.trainer = SimpleNamespace(
        global_step=3, accumulate_grad_batches=2, max_steps=10, global_rank=1, world_size=2
    )
    loader = module.train_dataloader()
    assert len(loader) == 20
    seen = list(loader)
    assert len(seen) == 20 - 6
    for number, (inputs, targets) in enumerate(seen, start=6):
        assert inputs.shape == targets.shape == (4, 16)
        assert inputs.dtype == targets.dtype == torch.int64
        expected = batch(5, number, 1, tokens=module.train_tokens, seq_len=16, batch_size=4)
        assert batches_equal((inputs, targets), expected)


def test_without_a_trainer_it_starts_at_0_and_goes_on(text_file: Path) -> None:
    module = text_module(text_file)
    loader = module.train_dataloader()
    assert len(loader) > 10**9
    first = next(iter(loader))
    assert batches_equal(first, batch(0, 0, tokens=module.train_tokens, seq_len=16, batch_size=4))


@pytest.mark.parametrize("loader", ["train_dataloader", "val_dataloader"])
def test_workers_change_nothing(text_file: Path, loader: str) -> None:
    modules = [text_module(text_file, num_workers=n) for n in (0, 2)]
    for module in modules:
        module.trainer = SimpleNamespace(global_step=2, max_steps=9, accumulate_grad_batches=1)
    none, two = (list(getattr(module, loader)()) for module in modules)
    assert len(none) == len(two) == (7 if loader == "train_dataloader" else 8)
    assert all(map(batches_equal, none, two))


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("loader", ["train_dataloader", "val_dataloader"])
def test_global_generators_are_left_alone(text_file: Path, loader: str, num_workers: int) -> None:
    module = text_module(text_file, num_workers=num_workers)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    next(iter(getattr(module, loader)()))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())


def test_val_loader_is_one_whole_pass(text_file: Path) -> None:
    module = text_module(text_file, val_tokens=333)
    loader = module.val_dataloader()
    targets = torch.cat([targets.flatten() for _, targets in loader])
    assert len(loader) == 6  # 332 targets, 64 a batch
    assert bytes(targets[targets != -100].tolist()) == text_file.read_bytes()[4501:4833]


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("loader", ["train_dataloader", "val_dataloader"])
def test_tokens_cut_under_a_run_end_it_with_a_line(
    text_file: Path, cache: Path, loader: str, num_workers: int
) -> None:
    module = text_module(text_file, num_workers=num_workers)
    batches = iter(getattr(module, loader)())
    next(batches)
    for file in (cache / "tokens").iterdir():
        os.truncate(file, 100)
    with pytest.raises(OSError, match=r"has been cut from [\d,]+ to 100 bytes") as error:
        list(batches)  # a worker may have made some before
    assert str(cache) in error.value.filename
    assert "Traceback" not in str(error.value)
    assert not multiprocessing.active_children()


LEFT: list[object] = []  # what is still there when a process exits


def leave_batches(file: Path) -> None:
    """Begin an iteration that nobody ends."""
    batches = iter(text_module(file, num_workers=1).train_dataloader())
    next(batches)
    LEFT.append(batches)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA cannot be used in a fork")
def test_workers_that_are_left_do_not_hold_the_exit_up(text_file: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=leave_batches, args=[text_file])
    process.start()
    process.join(timeout=60)
    process.kill()
    assert process.exitcode == 0


class Recorder(L.LightningModule):
    """The smallest model that Lightning will train; keeps the batches it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[torch.Tensor] = []
        self.validated = 0

    def training_step(self, batch: tuple, batch_index: int) -> torch.Tensor:
        self.seen.append(batch[0])
        return self.weight * batch[0].float().mean()

    def validation_step(self, batch: tuple, batch_index: int) -> None:
        self.validated += int((batch[1] != -100).sum())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(module: TextDataModule, directory: Path, **settings: object) -> Recorder:
    recorder = Recorder()
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=6,
        accumulate_grad_batches=2,
        val_check_interval=4,
        check_val_every_n_epoch=None,
        callbacks=[ModelCheckpoint(directory, "{step}", every_n_train_steps=1, save_top_k=-1)],
        **{name: False for name in ("logger", "enable_progress_bar", "enable_model_summary")},
        num_sanity_val_steps=0,
    )
    trainer.fit(recorder, datamodule=module, weights_only=True, **settings)
    return recorder


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lightning_resumes_at_the_next_batch(text_file: Path, tmp_path: Path) -> None:
    whole = fit(text_module(text_file), tmp_path / "whole")
    assert len(whole.seen) == 12  # 6 steps of 2 micro-batches
    assert whole.validated == 3 * 499
    for step in (1, 3, 5):
        checkpoint = tmp_path / "whole" / f"step={step}.ckpt"
        resumed = fit(text_module(text_file), tmp_path / "resumed", ckpt_path=checkpoint)
        assert len(resumed.seen) == 12 - 2 * step
        assert all(map(torch.equal, resumed.seen, whole.seen[2 * step :]))


# --- settings and texts that are refused ----------------------------------------------------


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"seq_len": 0}, "data.seq_len=0: must be an integer of at least 1; try data.seq_len=256"),
        ({"seq_len": 1.5}, "data.seq_len=1.5: "),
        ({"seq_len": True}, "data.seq_len=True: "),
        ({"seq_len": "long"}, "data.seq_len=long: "),
        ({"seq_len": None}, "data.seq_len=null: "),
        ({"batch_size": -1}, "data.batch_size=-1: "),
        ({"num_workers": -1}, "data.num_workers=-1: "),
        ({"seed": -1}, "seed=-1: "),
        ({"val_tokens": 256}, "data.seq_len=256: must be less than data.val_tokens=256; try "),
        ({"val_tokens": 1}, "data.val_tokens=1: must be null or an integer of at least 2"),
        ({"val_tokens": float("nan")}, "data.val_tokens=nan: "),
        (
            {"tokenizer": "bit"},
            "data.tokenizer=bit: must be one of byte, char, bpe, or the path of a tokenizer.json "
            "or of a folder with one; try data.tokenizer=byte",
        ),
        ({"vocab_size": 300}, "data.vocab_size=300: data.tokenizer=byte has a size of its own"),
        ({"tokenizer": []}, "data.tokenizer=[]: must be one of byte, char"),
        (
            {"corpus": "book"},
            "data.corpus=book: must be one of books, huggingface, mix, shakespeare, stdlib, text; "
            "try data.corpus=books",
        ),
        ({"corpus": "text"}, "data.path=null: "),
        ({"path": "x.txt"}, "data.path=x.txt: data.corpus=stdlib reads no path"),
    ],
)
def test_settings_that_are_refused(settings: dict, said: str) -> None:
    with pytest.raises(ValueError) as error:
        TextDataModule(**settings)
    assert str(error.value).startswith(said)
    assert len(str(error.value).splitlines()) == 1


def test_the_defaults_are_those_of_the_config_files() -> None:
    """They stand twice, for those who build a module by themselves."""
    defaults = inspect.signature(TextDataModule).parameters
    config = OmegaConf.load(ROOT / "configs/data/_base.yaml")
    stated = {key: defaults[key].default for key in config if key in defaults}
    assert {"corpus", "path", "tokenizer", "seq_len", "batch_size", "val_tokens"} <= set(stated)
    assert stated.items() <= dict(config).items()


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ValueError) as error:
        TextDataModule(corpus="nothing", tokenizer="none", seq_len=0, batch_size=0, val_tokens=0)
    assert len(str(error.value).splitlines()) == 5


@pytest.mark.parametrize(
    "length, split, works", [(5000, "validation", 499), (100, "validation", 9), (1, "training", 0)]
)
def test_text_shorter_than_a_sequence(tmp_path: Path, length: int, split: str, works: int) -> None:
    file = tmp_path / "short.txt"
    file.write_text("x" * length)
    with pytest.raises(ValueError) as error:
        text_module(file, seq_len=1000).prepare()
    message = str(error.value)
    assert message.startswith("data.seq_len=1000: needs 1001 tokens")
    assert f"the {split} split of data.path={file}" in message
    assert len(message.splitlines()) == 2
    if works:
        assert f"use data.seq_len={works} or less" in message
        text_module(file, seq_len=works).prepare()
    else:
        assert "data.seq_len=0" not in message


def test_unusable_text_leaves_nothing_half_done(tmp_path: Path, cache: Path) -> None:
    module = text_module(tmp_path / "missing.txt")
    for _ in range(2):  # the second call must not take the first for done
        with pytest.raises(ValueError, match=r"data\.path=.*missing\.txt: no such file"):
            module.prepare()
    assert not cache.exists()
