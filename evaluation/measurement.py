"""Checkpoints measured as one: their cells, run where they are missing, and what comes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from data import Tokenizer
from evaluation.aggregate import Results, loss_figures, measure_figures
from evaluation.cells import Cells, Key
from evaluation.engine import cost, run_cells
from evaluation.estimates import best_methods
from evaluation.measures.measure import Material
from evaluation.measures.registry import MEASURES
from evaluation.passages import passages_for_longest
from evaluation.plan import Condition, plan_cells
from evaluation.result import Extrapolation
from evaluation.setting import winning_setting
from evaluation.settings import Settings
from evaluation.statistics import INTERVAL_RESAMPLES
from evaluation.subject import Subject

OnProgress = Callable[[int, int], None]


class Measurement:
    """Models of one training length, whose figures become one, and their cells.

    Attributes:
        plans: subject's key -> its cells.
        n_bytes: (P,), the bytes of text that the targets of each passage stand for.
    """

    def __init__(
        self,
        subjects: Sequence[Subject],
        documents: Sequence[np.ndarray],
        token_bytes: np.ndarray,
        settings: Settings,
        tokenizer: Tokenizer | None,
        cells: Cells,
    ) -> None:
        """ValueError where a measure needs a tokenizer and there is none."""
        _check_tokenizer(settings, tokenizer)
        self.subjects, self.settings, self.cells = subjects, settings, cells
        passages, too_long = passages_for_longest(documents, settings.lengths, settings.passages)
        self.material = _material(settings, documents, passages, tokenizer, subjects[0].beginning)
        self.fit = [n for n in settings.lengths if n not in too_long]
        self.plans = {s.key: plan_cells(s.config, settings, too_long) for s in subjects}
        assert len(self.plans) == len(subjects), [subject.key for subject in subjects]
        targets = passages[:, -settings.target_tokens :]
        self.n_bytes = np.asarray(token_bytes)[targets].sum(axis=1)

    def missing(self, subject: Subject) -> list[Condition]:
        """The cells of a model that are yet to be measured."""
        return [
            at for at in self.plans[subject.key].todo() if Key(subject.key, *at) not in self.cells
        ]

    @cached_property
    def results(self) -> Results:
        """The finished cells; every one must be there."""
        return Results(self.plans, self.cells)

    def result(self) -> Extrapolation:
        """The figures, means over the checkpoints."""
        settings = self.settings
        loss = loss_figures(self.results, settings, self.n_bytes, self.fit)
        measures, unmeasured = measure_figures(self.results, settings)
        return Extrapolation(
            train_length=settings.train_length,
            lengths=settings.lengths,
            protocol=self._protocol(),
            methods=loss.methods,
            reasons=loss.reasons,
            checkpoints=[subject.path for subject in self.subjects if subject.path is not None],
            tax=loss.tax,
            measures=measures,
            unmeasured=unmeasured,
            best=best_methods(self.results, settings, self.n_bytes),
            setting=self._setting(),
        )

    def _setting(self) -> dict[str, Any] | None:
        """Of models from elsewhere, which have a config.json to paste it into."""
        first = self.subjects[0]
        if first.family is None:
            return None
        return winning_setting(
            self.results, self.settings, self.n_bytes, first.config, first.family
        )

    def _protocol(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "name": "same targets, growing left context",
            "passages": len(self.material.passages),
            "passages_asked": settings.passages,
            "target_tokens": settings.target_tokens,
            "target_bytes": int(self.n_bytes.sum()),
            "trials": settings.trials,
            "factor": "context / train_length",
            "interval": f"95 % percentile bootstrap over passages, {INTERVAL_RESAMPLES} resamples",
            "precision": self.subjects[0].precision,
            "model": self.subjects[0].about,
            "methods": {method.name: method.line for method in settings.methods},
            "measures": {name: MEASURES[name].line for name in settings.measures},
        }


def run_missing(measurements: Sequence[Measurement], on_progress: OnProgress | None) -> None:
    """Run what is not there yet, one model in memory at a time.

    A model with nothing missing is not even loaded. `on_progress` gets (done, total) of all.
    """
    waiting = [(m, s, m.missing(s)) for m in measurements for s in m.subjects]
    total = sum(cost(at, m.material) for m, _, todo in waiting for at in todo)
    done = 0

    def advance(tokens: int) -> None:
        nonlocal done
        done += tokens
        if on_progress is not None:
            on_progress(done, total)

    for m, subject, todo in waiting:
        if todo:
            model = subject.load()
            run_cells(model, subject.key, m.plans[subject.key], todo, m.material, m.cells, advance)
            del model  # before the next is loaded


def _material(
    settings: Settings,
    documents: Sequence[np.ndarray],
    passages: np.ndarray,
    tokenizer: Tokenizer | None,
    beginning: Sequence[int],
) -> Material:
    return Material(
        documents,
        passages,
        tokenizer,
        settings.train_length,
        settings.target_tokens,
        settings.trials,
        settings.max_tokens_per_batch,
        beginning,
    )


def _check_tokenizer(settings: Settings, tokenizer: Tokenizer | None) -> None:
    needing = [name for name in settings.measures if MEASURES[name].needs_tokenizer]
    if needing and tokenizer is None:
        raise ValueError(
            f"measures=[{needing[0]}]: writes text of its own and needs the model's tokenizer; "
            "pass tokenizer=, or measure [loss,copy]"
        )
