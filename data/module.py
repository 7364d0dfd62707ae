"""The Lightning data module: corpus, tokenizer and batches behind one object."""

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import chain
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common.rules import refuse
from common.signals import STOPPING
from data.batches import batch, count_validation_batches, validation_batch
from data.cache import check_uncut, map_tokens
from data.corpora import load_corpus
from data.documents import TokenDocuments, by_document
from data.huggingface import located
from data.known import facts_of
from data.origin import Origin
from data.progress import OnProgress, WorkProgress
from data.recordfiles import TEXT_KEY
from data.settings import data_problems, task_problems
from data.tasks import Mixture
from data.texts import watched
from data.tokenizers import Tokenizer, build_tokenizer

ENDLESS = 2**40  # micro-batches, where no trainer says how many

MakeBatch = Callable[[int], tuple[np.ndarray, np.ndarray]]


class _Batches(Dataset):
    """A function from an index to a batch, in the form that DataLoader's workers take.

    An OSError, for tokens that are there no more, is handed over as the item: out of a worker it
    would come with a traceback for its text.
    """

    def __init__(self, make: MakeBatch) -> None:
        self.make = make

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor] | OSError:
        try:
            inputs, targets = self.make(index)
        except OSError as error:
            return error
        return torch.from_numpy(inputs), torch.from_numpy(targets)


def _items(batches: Iterator[tuple[Tensor, Tensor] | OSError]) -> Iterator[tuple[Tensor, Tensor]]:
    for item in batches:
        if isinstance(item, OSError):
            raise item
        yield item


def _of_uncut(make: Callable[..., Any], index: int, **arguments: Any) -> Any:
    """`make(index, tokens=…)`, once the file behind the tokens has been found as long as it was."""
    check_uncut(arguments["tokens"])
    return make(index, **arguments)


def _leave_signals_to_the_run(worker: int) -> None:
    """A worker ends with the run, not by a signal that was sent to all processes of a group."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


class BatchLoader:
    """Batches `first()` to `length - 1` of a function from an index to a batch, in order.

    It is no DataLoader itself, so that Lightning leaves its order alone in distributed runs.
    `first` is asked when an iteration begins, which is after a checkpoint has been restored.
    """

    def __init__(
        self, make: MakeBatch, length: int, *, first: Callable[[], int], num_workers: int
    ) -> None:
        self.make, self.length, self.first, self.num_workers = make, length, first, num_workers

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        loader = DataLoader(
            _Batches(self.make),
            batch_size=None,  # an item is a whole batch
            sampler=range(self.first(), self.length),
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_leave_signals_to_the_run,
            # DataLoader draws a seed even where nothing is random. Drawn from the global
            # generator it would change the dropout of the run with every validation.
            generator=torch.Generator(),
        )
        return _items(iter(loader))


class TextDataModule(L.LightningDataModule):
    """Token windows of a corpus, as (inputs, targets) int64 (batch_size, seq_len).

    After `prepare()` it has:
        tokenizer, vocab_size
        fingerprint: what was read, as a plain dict (corpus, sha256, tokenizer, token counts, and
            the shares of tasks in training, if there are any)
        mixture: those tasks, or None
        train_tokens (n,), a memory map of uint8, uint16 or uint32
        val_tokens_array (m,), the first `val_tokens` of the validation split, or all of it
        val_documents: the whole validation split, an array (tokens,) per document
        origin: where the text comes from, of a data set of the Hub with its revision
    """

    tokenizer: Tokenizer

    def __init__(
        self,
        corpus: str = "stdlib",
        path: str | None = None,
        tokenizer: str = "byte",
        seq_len: int = 256,
        batch_size: int = 8,
        val_tokens: int | None = None,
        num_workers: int = 0,
        *,
        text_key: str = TEXT_KEY,
        name: str | None = None,
        split: str | None = None,
        documents: int | None = None,
        seed: int = 0,
        **shares: float,
    ) -> None:
        """The keys of the config group `data`, and the run's `seed`.

        `shares`: of the training windows, by kind of task (`data.tasks`); those left out are 0.

        Raises:
            ValueError: settings that no run can have, one line each. Nothing is read yet.
        """
        super().__init__()
        self.corpus, self.path, self.tokenizer_name = corpus, path, tokenizer
        self.seq_len, self.batch_size, self.val_tokens = seq_len, batch_size, val_tokens
        self.num_workers, self.seed = num_workers, seed
        self.shares = shares
        self._prepared = False
        self.origin = Origin(corpus, path, text_key, name, split, documents)
        settings: dict[str, Any] = {**vars(self.origin), "tokenizer": tokenizer}
        settings |= {"seq_len": seq_len, "batch_size": batch_size, "val_tokens": val_tokens}
        settings |= {"num_workers": num_workers, **shares}
        refuse(data_problems(settings, seed) + task_problems(settings))

    def prepare(self) -> None:
        """Load and tokenize the corpus, or map its cached ids; a second call does nothing.

        Raises:
            ValueError: the text cannot be had or used, or is shorter than one sequence.
        """
        if self._prepared:
            return
        with WorkProgress() as on_progress:
            self._read(on_progress)
        self._prepared = True

    def _read(self, on_progress: OnProgress) -> None:
        """The text's facts, known or found out; and its tokens, mapped or made and mapped."""
        self.origin = located(self.origin)
        load = cache(partial(load_corpus, **vars(self.origin), on_progress=on_progress))
        facts = facts_of(self.origin, self.tokenizer_name, load, on_progress)
        tokenizer = build_tokenizer(self.tokenizer_name, [facts.characters])

        def tokens(split: str) -> np.ndarray:
            what = f"Tokenizing the {split} text"
            return map_tokens(
                lambda: _documents(watched(getattr(load(), split), what, on_progress)),
                getattr(facts, split),
                tokenizer,
                split,
                on_progress,
            )

        train_tokens, val_tokens = tokens("train"), tokens("validation")
        self._check_length(len(train_tokens), len(val_tokens))
        mixture = Mixture(self.shares, tokenizer) if any(self.shares.values()) else None

        self.train_tokens = train_tokens
        self.val_tokens_array = val_tokens[: self.val_tokens]
        self.val_documents = _split(val_tokens, tokenizer, facts.validation_documents)
        self.vocab_size = tokenizer.vocab_size
        self.fingerprint: dict[str, Any] = {
            "corpus": self.corpus,
            "sha256": facts.sha256,
            "tokenizer": self.tokenizer_name,
            "n_train_tokens": len(self.train_tokens),
            "n_val_tokens": len(self.val_tokens_array),
        }
        self.fingerprint |= {} if mixture is None else mixture.shares
        self.mixture = mixture
        self.tokenizer = tokenizer

    def _check_length(self, n_train: int, n_val: int) -> None:
        """ValueError if a split has no room for one sequence and the target behind it."""
        n_tokens, split = min((n_val, "validation"), (n_train, "training"))
        if n_tokens > self.seq_len:
            return
        source = f"data.corpus={self.corpus}" if self.path is None else f"data.path={self.path}"
        shorter = f"data.seq_len={n_tokens - 1} or less, or " if n_tokens > 1 else ""
        raise ValueError(
            f"data.seq_len={self.seq_len}: needs {self.seq_len + 1} tokens, but the {split} split "
            f"of {source} has {n_tokens}\n(of {n_train + n_val} in all); "
            f"use {shorter}a longer text"
        )

    def prepare_data(self) -> None:
        """Lightning's hook for one process of a machine: fill the cache folder."""
        self.prepare()

    def setup(self, stage: str | None = None) -> None:
        """Lightning's hook for every process."""
        self.prepare()

    def train_dataloader(self) -> BatchLoader:
        """Micro-batches of this rank, from the trainer's present step to its last."""
        self.prepare()
        make = partial(
            _of_uncut,
            partial(batch, self.seed),
            rank=self._of_trainer("global_rank", 0),
            tokens=self.train_tokens,
            seq_len=self.seq_len,
            batch_size=self.batch_size,
            mixture=self.mixture,
        )
        steps = self._of_trainer("max_steps", -1)
        length = steps * self._accumulate if steps >= 0 else ENDLESS
        return BatchLoader(make, length, first=self._position, num_workers=self.num_workers)

    def val_dataloader(self) -> BatchLoader:
        """One pass over `val_tokens_array`, every target once, shared out among the ranks."""
        self.prepare()
        world_size = self._of_trainer("world_size", 1)
        shape = {"seq_len": self.seq_len, "batch_size": self.batch_size}
        tokens = self.val_tokens_array
        make = partial(
            _of_uncut,
            validation_batch,
            rank=self._of_trainer("global_rank", 0),
            world_size=world_size,
            tokens=tokens,
            **shape,
        )
        length = count_validation_batches(len(tokens), world_size=world_size, **shape)
        return BatchLoader(make, length, first=lambda: 0, num_workers=self.num_workers)

    def _of_trainer(self, name: str, default: int) -> int:
        """A number of the trainer's, or `default` where there is no trainer."""
        return getattr(self.trainer, name, default)

    @property
    def _accumulate(self) -> int:
        """Micro-batches per optimizer step."""
        return self._of_trainer("accumulate_grad_batches", 1)

    def _position(self) -> int:
        """The micro-batch that comes next: a resumed run goes on where it stopped."""
        return self._of_trainer("global_step", 0) * self._accumulate


def _documents(texts: Iterable[Iterable[str]]) -> Iterator[Iterator[str]]:
    """Every document of texts that may hold many, in blocks; each to be read before the next."""
    return chain.from_iterable(map(by_document, texts))


def _split(tokens: np.ndarray, tokenizer: Tokenizer, documents: int) -> Sequence[np.ndarray]:
    """Views of the documents in `tokens`, without the separators between them."""
    if documents == 1:
        return [tokens]
    return TokenDocuments.between(tokenizer.separator, tokens)
