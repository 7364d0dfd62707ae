"""Which figure of these runs can be compared, and what stands against the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reports.run_files import RunFiles

LOSS, BPB = "val/loss", "val/bpb"
UNITS = {LOSS: "nats per token", BPB: "bits per byte"}


@dataclass(frozen=True)
class Comparable:
    """The figure by which runs are compared, None where there is none, and why it is not another.

    `doubts`: what a reader must know besides; `same_text`: whether all have read one text.
    """

    figure: str | None
    reasons: list[str]
    doubts: list[str]
    same_text: bool = True


def comparable(runs: Sequence[RunFiles]) -> Comparable:
    """By val/loss where text, tokenizer and validation set are the same; else by bits per byte.

    Nats per token are of other tokens under another tokenizer. Bits per byte of one text can be
    compared under any, as far as they are of the same part of it.
    """
    doubts = _old(runs)
    if reason := _other_text(runs):
        return Comparable(None, [reason], doubts, same_text=False)
    if len(weights := _settings(runs, "weights")) > 1:
        shown = ", ".join(sorted(weights))
        reason = f"Weights of the texts differ (data.weights: {shown}): no run is marked as best."
        return Comparable(None, [reason], doubts)
    tokenizers = {_tokenizer(run) for run in runs}
    counts = _settings(runs, "val_tokens")
    if len(tokenizers) == 1 and len(counts) == 1:
        return Comparable(LOSS, [], doubts)
    if len(tokenizers) == 1:
        shown = ", ".join(sorted(counts))
        reason = f"Validation sets differ (data.val_tokens: {shown}): no run is marked as best."
        return Comparable(None, [reason], doubts)
    names = ", ".join(sorted(tokenizers))
    reason = f"Tokenizers differ ({names}): nats per token cannot be compared"
    if counts == {"None"}:
        return Comparable(BPB, [f"{reason}, bits per byte can."], doubts)
    reason += (
        ", and data.val_tokens makes each validate on another part of the text; with "
        "data.val_tokens=null bits per byte can. No run is marked as best."
    )
    return Comparable(None, [reason], doubts)


def devices(runs: Sequence[RunFiles]) -> set[str]:
    """The devices that runs were trained on, as far as they say it."""
    return {str(run.environment["device"]) for run in runs if run.environment.get("device")}


def _other_text(runs: Sequence[RunFiles]) -> str | None:
    """What to say where runs have read different texts."""
    digests = {text for run in runs if (text := (run.results or {}).get("text"))}
    names = set() if _all_say(runs) else {_named(run) for run in runs}
    if len(digests) <= 1 and len(names) <= 1:
        return None
    return (
        f"The runs read different texts ({_how_texts_differ(runs)}): neither nats nor bits can be "
        "compared, and no run is marked as best."
    )


def _how_texts_differ(runs: Sequence[RunFiles]) -> str:
    corpora, paths = _settings(runs, "corpus"), _settings(runs, "path")
    sources = _settings(runs, "sources")
    pythons = {str(run.environment.get("python")) for run in runs}
    if len(corpora) > 1:
        return f"data.corpus: {', '.join(sorted(corpora))}"
    if corpora == {"stdlib"} and len(pythons) > 1:
        return f"data=stdlib is the library of each Python: {', '.join(sorted(pythons))}"
    if len(sources) > 1:
        return f"data.sources: {', '.join(sorted(sources))}"
    if len(paths) > 1:
        return f"data.path: {', '.join(sorted(paths))}"
    changed = corpora if paths == {"None"} else paths
    return f"{changed.pop()} has changed between them"


def _named(run: RunFiles) -> tuple[Any, ...]:
    """What stands for the text of a run that does not say its digest."""
    data = run.config.get("data") or {}
    python = run.environment.get("python") if data.get("corpus") == "stdlib" else None
    return data.get("corpus"), data.get("path"), python


def _all_say(runs: Sequence[RunFiles]) -> bool:
    return all((run.results or {}).get("text") for run in runs)


def _old(runs: Sequence[RunFiles]) -> list[str]:
    if _all_say(runs):
        return []
    return [
        "Older runs do not say which text they read; it is taken for the same where its name is "
        "the same."
    ]


def _tokenizer(run: RunFiles) -> str:
    """Its name or path, and the size of one that was trained to a size."""
    data = run.config.get("data") or {}
    size = data.get("vocab_size")
    return f"{data.get('tokenizer')}" + (f" of {size}" if size else "")


def _settings(runs: Sequence[RunFiles], key: str) -> set[str]:
    return {str((run.config.get("data") or {}).get(key)) for run in runs}
