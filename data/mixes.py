"""What `data.sources` and `data.weights` must be; known before a text is read."""

import glob
import math
import os
from collections.abc import Mapping
from typing import Any

from common.rules import among, list_of, number, optional, problems, shown, text
from data.corpora import CORPORA, MIX, corpus_problems, origin_problems, source_of

RULES = {
    "data.sources": optional(list_of(text("stdlib"))),
    "data.weights": optional(list_of(number(0, 1e9, 1), repeats=True)),
}
EXAMPLE = "data=mix data.sources=[shakespeare,stdlib] data.weights=[0.3,0.7]"


def text_problems(settings: Mapping[str, Any]) -> list[str]:
    """A line for each broken rule on where the text comes from, of the group `data`."""
    return origin_problems(settings) or mix_problems(settings)


def mix_problems(settings: Mapping[str, Any]) -> list[str]:
    """A line for each broken rule on the sources and weights of the group `data`."""
    values = {f"data.{key}": settings[key] for key in ("sources", "weights")}
    if lines := problems(values, RULES):
        return lines
    if settings["corpus"] != MIX:
        return [
            f"{key}={shown(value)}: data.corpus={settings['corpus']} is one text; try {EXAMPLE}"
            for key, value in values.items()
            if value is not None
        ]
    if settings["sources"] is None:
        return [f"data.sources=null: data.corpus=mix needs one text or more, e.g. {EXAMPLE}"]
    sources = settings["sources"]
    lines = [line for typed in sources for line in _source_problems(typed)]
    lines += [
        f"data.sources={shown(sources)}: must name {typed} once; give it another weight instead"
        for typed in dict.fromkeys(sources)
        if sources.count(typed) > 1
    ]
    return lines + _weight_problems(sources, settings["weights"])


def _source_problems(typed: str) -> list[str]:
    """A line where one of the sources is no text that there is."""
    name, path = source_of(typed)
    if path is None and name in (MIX, "text", "huggingface"):
        return [f"data.sources: {name} names no text; give corpora and paths, e.g. {EXAMPLE}"]
    if lines := corpus_problems(name, path):
        return [line.replace("data.path=", "data.sources: ", 1) for line in lines]
    if name != "text" or path is None or os.path.exists(path) or glob.glob(path, recursive=True):
        return []
    corpora = [*sorted(CORPORA.keys() - {MIX, "text", "huggingface"}), "huggingface:OWNER/NAME"]
    return [
        f"data.sources: {typed} is no corpus, and no file, folder or glob that is there; "
        f"{among(typed, corpora)}"
    ]


def _weight_problems(sources: list[str], weights: list[float] | None) -> list[str]:
    if weights is None:
        return []
    if len(weights) != len(sources):
        equal = shown([1] * len(sources))
        return [
            f"data.weights={shown(weights)}: must be one for each of data.sources="
            f"{shown(sources)}; try data.weights={equal}"
        ]
    if not math.fsum(weights):
        return [
            f"data.weights={shown(weights)}: must not all be 0; try data.weights="
            f"{shown([1] * len(sources))}"
        ]
    return []
