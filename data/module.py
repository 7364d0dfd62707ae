"""The Lightning data module: corpus, tokenizer and batches behind one object."""

from collections.abc import Sequence
from typing import Any

import lightning as L
import numpy as np

from common.rules import refuse
from data.documents import Chained
from data.loader import BatchLoader
from data.origin import Origin
from data.packing import holds
from data.progress import OnProgress, WorkProgress
from data.rank_batches import TrainingBatches, ValidationBatches
from data.recordfiles import TEXT_KEY
from data.settings import data_problems, task_problems
from data.sources import (
    MappedText,
    Reading,
    byte_scale,
    fingerprint_of,
    named_sources,
    shares_of,
    tokenizer_of,
)
from data.tasks import Mixture
from data.tokenizer_choice import kind_of, mark_of
from data.tokenizers import Tokenizer
from data.warmup import Growth

ENDLESS = 2**40  # micro-batches, where no trainer says how many


class TextDataModule(L.LightningDataModule):
    """Token windows of a corpus, as (inputs, targets) int64 (batch_size, seq_len).

    With `document_mask` cu_seqlens stand behind them (`data.packing`).

    After `prepare()` it has:
        tokenizer, vocab_size
        byte_scale: the bytes of the validation text for each that its tokens stand for; mostly 1
        origin: where the text comes from, of a data set of the Hub with its revision
        fingerprint: what was read, as a plain dict (corpus, sha256, tokenizer, token counts, of a
            mixture its sources, and the shares of tasks in training, if there are any)
        mixture: those tasks, or None
        sources: the texts, and what each gives of the training windows, `shares`
        train_tokens (n,), of the first source a memory map of uint8, uint16 or uint32
        val_tokens_array (m,), the first `val_tokens` of its validation split, or all of it
        val_documents: the whole validation split, of all sources, an array (tokens,) per document
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
        vocab_size: int | None = None,
        text_key: str = TEXT_KEY,
        name: str | None = None,
        split: str | None = None,
        documents: int | None = None,
        sources: Sequence[str] | None = None,
        weights: Sequence[float] | None = None,
        document_mask: bool = False,
        warmup_seq_len: int | None = None,
        warmup_steps: int = 100,
        seed: int = 0,
        **tasks: float,
    ) -> None:
        """The keys of the config group `data`, and the run's `seed`.

        `tasks`: shares of the training windows, by kind of task (`data.tasks`); those left out
        are 0.

        Raises:
            ValueError: settings that no run can have, one line each. Nothing is read yet.
        """
        super().__init__()
        self.origin = Origin(corpus, path, text_key, name, split, documents, sources)
        settings: dict[str, Any] = {**vars(self.origin), "tokenizer": tokenizer}
        settings |= {"vocab_size": vocab_size, "weights": weights, "document_mask": document_mask}
        settings |= {"seq_len": seq_len, "batch_size": batch_size, "val_tokens": val_tokens}
        settings |= {"warmup_seq_len": warmup_seq_len, "warmup_steps": warmup_steps}
        settings |= {"num_workers": num_workers, **tasks}
        refuse(data_problems(settings, seed) + task_problems(settings))
        self.corpus, self.tokenizer_name, self.asked_size = corpus, tokenizer, vocab_size
        self.given: Tokenizer | None = None  # in the place of the one that these keys mean
        self.named, self.weights = named_sources(self.origin), weights
        self.growth = Growth(seq_len, batch_size, warmup_seq_len, warmup_steps)
        self.seq_len, self.batch_size, self.val_tokens = seq_len, batch_size, val_tokens
        self.document_mask, self.num_workers, self.seed = document_mask, num_workers, seed
        self.tasks = tasks
        self._prepared = False

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
        """The facts of every source, known or found out; then its tokens, mapped or made."""
        kind = kind_of(self.tokenizer_name)
        read = [Reading(named, kind, on_progress) for named in self.named]
        tokenizer = self.given or tokenizer_of(
            read, self.tokenizer_name, self.asked_size, on_progress
        )
        sources = [one.mapped(tokenizer) for one in read]
        for source in sources:
            self._check_length(source)
        if len(sources) == 1:
            self.origin = sources[0].named.origin
        separator = self._separator(sources, tokenizer) if self.document_mask else None
        mixture = Mixture(self.tasks, tokenizer) if any(self.tasks.values()) else None

        self.sources, self.shares = sources, shares_of(sources, self.weights)
        self.val_documents = Chained([source.documents for source in sources])
        self.vocab_size = tokenizer.vocab_size
        self.byte_scale = byte_scale(sources, tokenizer)
        self.fingerprint: dict[str, Any] = {
            "corpus": self.corpus,
            **fingerprint_of(sources, self.shares),
            **mark_of(tokenizer),
            "n_train_tokens": sum(len(source.train) for source in sources),
            "n_val_tokens": sum(map(len, self._validated(sources))),
        }
        self.fingerprint |= {} if mixture is None else mixture.shares
        self.mixture, self.tokenizer, self.separator = mixture, tokenizer, separator

    def _validated(self, sources: Sequence[MappedText]) -> list[np.ndarray]:
        """What every source is validated on."""
        return [source.validation[: self.val_tokens] for source in sources]

    @property
    def train_tokens(self) -> np.ndarray:
        """Of the first source, (n,)."""
        return self.sources[0].train

    @property
    def val_tokens_array(self) -> np.ndarray:
        """Of the first source, (m,)."""
        return self._validated(self.sources)[0]

    @property
    def named_shares(self) -> dict[str, float]:
        """What each source gives of the training windows, by its name."""
        names = [source.named.name for source in self.sources]
        return dict(zip(names, self.shares, strict=True))

    def _separator(self, sources: Sequence[MappedText], tokenizer: Tokenizer) -> int:
        """The token that begins a document. ValueError where no text has two documents."""
        several = [source for source in sources if source.facts.validation_documents > 1]
        if several or any(holds(source.train, tokenizer.separator) for source in sources):
            return tokenizer.separator
        raise ValueError(
            f"data.document_mask=true: {sources[0].named.key} is a single document, so that there "
            "is nothing to mask; use data.document_mask=false"
        )

    def _check_length(self, source: MappedText) -> None:
        """ValueError if a split has no room for one sequence and the target behind it."""
        n_train, n_val = len(source.train), len(source.validation)
        n_tokens, split = min((n_val, "validation"), (n_train, "training"))
        if n_tokens > self.seq_len:
            return
        shorter = f"data.seq_len={n_tokens - 1} or less, or " if n_tokens > 1 else ""
        raise ValueError(
            f"data.seq_len={self.seq_len}: needs {self.seq_len + 1} tokens, but the {split} split "
            f"of {source.named.key} has {n_tokens}\n(of {n_train + n_val} in all); "
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
        make = TrainingBatches(
            self.seed,
            self._of_trainer("global_rank", 0),
            self._accumulate,
            [source.train for source in self.sources],
            self.shares,
            self.growth,
            self.mixture,
            self.separator,
        )
        steps = self._of_trainer("max_steps", -1)
        length = steps * self._accumulate if steps >= 0 else ENDLESS
        return BatchLoader(make, length, first=self._position, num_workers=self.num_workers)

    def val_dataloader(self) -> BatchLoader | list[BatchLoader]:
        """One pass over what is validated, every target once, shared out among the ranks.

        Of a mixture, a loader for each source.
        """
        self.prepare()
        rank, size = self._of_trainer("global_rank", 0), self._of_trainer("world_size", 1)
        shape = (self.seq_len, self.batch_size, self.separator)
        makes = [
            ValidationBatches(rank, size, tokens, *shape)
            for tokens in self._validated(self.sources)
        ]
        loaders = [
            BatchLoader(make, len(make), first=lambda: 0, num_workers=self.num_workers)
            for make in makes
        ]
        return loaders if len(loaders) > 1 else loaders[0]

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
