"""Where a text comes from: the keys under `data` that say so, and what they must be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from common.rules import at_least, optional, problems, text
from data.recordfiles import TEXT_KEY


@dataclass(frozen=True)
class Origin:
    """A corpus, and which text of it."""

    corpus: str = "stdlib"
    path: str | None = None
    text_key: str = TEXT_KEY  # the field of records
    name: str | None = None  # what data=huggingface alone has: the configuration of the data set
    split: str | None = None  # one of its splits; None: train, or the only one
    documents: int | None = None  # no more than so many of them, from the first on
    sources: Sequence[str] | None = None  # what data=mix alone has: corpora and paths

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Origin":
        """From settings of the group `data`, which may have others too, or lack some of these."""
        return cls(**{key: settings[key] for key in KEYS if key in settings})


KEYS = tuple(field.name for field in fields(Origin))
OF_RECORDS, OF_HUGGINGFACE = ("text_key",), ("name", "split", "documents")
RULES = {
    "data.text_key": text(TEXT_KEY),
    "data.name": optional(text("default")),
    "data.split": optional(text("train")),
    "data.documents": optional(at_least(2, 10_000)),
}


def key_problems(settings: Mapping[str, Any]) -> list[str]:
    """A line for each key of an origin that breaks its rule, or that its corpus does not read."""
    origin = Origin.of(settings)
    values = {f"data.{key}": getattr(origin, key) for key in (*OF_RECORDS, *OF_HUGGINGFACE)}
    lines = problems(values, RULES)
    unread = {"text": OF_HUGGINGFACE, "huggingface": ()}
    for key in unread.get(origin.corpus, (*OF_RECORDS, *OF_HUGGINGFACE)):
        if getattr(origin, key) != getattr(Origin, key):
            lines.append(
                f"data.{key}={getattr(origin, key)}: data.corpus={origin.corpus} reads no such "
                "key; leave it out, or take data=huggingface"
            )
    return lines
