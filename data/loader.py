"""Batches of a function from a number to a batch, in order, by DataLoader's workers."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.synchronize import Event
from multiprocessing.util import Finalize

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common.signals import STOPPING

MakeBatch = Callable[[int], tuple[np.ndarray, ...]]


class _Batches(Dataset):
    """A function from an index to a batch, in the form that DataLoader's workers take.

    An OSError, for tokens that are there no more, is handed over as the item: out of a worker it
    would come with a traceback for its text.
    """

    def __init__(self, make: MakeBatch) -> None:
        self.make = make

    def __getitem__(self, index: int) -> tuple[Tensor, ...] | OSError:
        try:
            return tuple(map(torch.from_numpy, self.make(index)))
        except OSError as error:
            return error


def _items(batches: Iterator[tuple[Tensor, ...] | OSError]) -> Iterator[tuple[Tensor, ...]]:
    try:
        for item in batches:
            if isinstance(item, OSError):
                raise item
            yield item
    finally:
        del batches  # or the traceback would keep them, and their workers


def _leave_signals_to_the_run(ended: Event, worker: int) -> None:
    """A worker ends with the run, not by a signal that was sent to all processes of a group.

    With the run means: by the SIGTERM that multiprocessing sends, at its exit, to workers that are
    left, and whose end it then waits for.
    """

    def end(*_: object) -> None:
        if ended.is_set():
            os._exit(0)

    for number in STOPPING:
        signal.signal(number, end if number == signal.SIGTERM else signal.SIG_IGN)


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

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        ended = multiprocessing.Event() if self.num_workers else None
        loader = DataLoader(
            _Batches(self.make),
            batch_size=None,  # an item is a whole batch
            sampler=range(self.first(), self.length),
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=None if ended is None else partial(_leave_signals_to_the_run, ended),
            # DataLoader draws a seed even where nothing is random. Drawn from the global
            # generator it would change the dropout of the run with every validation.
            generator=torch.Generator(),
        )
        batches = iter(loader)
        if ended is not None:  # set with the end of them, or before the exit's SIGTERM
            Finalize(batches, ended.set, exitpriority=0)
        return _items(batches)
