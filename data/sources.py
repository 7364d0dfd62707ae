"""The texts that windows are drawn from: one, or several mixed by weight (`data.corpus=mix`).

A source is a corpus by its name, or a path of the user's own text. Each is split by itself as if
there was no other, and all are encoded by one tokenizer.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from data.cache import map_tokens
from data.corpora import MIX, Corpus, lasting_path, load_corpus, source_of
from data.documents import TokenDocuments
from data.huggingface import located
from data.known import Facts, facts_of
from data.origin import Origin
from data.progress import OnProgress
from data.texts import BLOCK, joined
from data.tokenizer_choice import chosen_tokenizer, kind_of
from data.tokenizers import SubwordTokenizer, Tokenizer


@dataclass(frozen=True)
class Named:
    """A source by its name in curves, `val/loss/<name>`; `key` is what the user typed for it."""

    name: str
    origin: Origin
    key: str


@dataclass(frozen=True)
class MappedText:
    """The tokens of a text, mapped."""

    named: Named
    facts: Facts
    train: np.ndarray  # (n,)
    validation: np.ndarray  # (m,), all there are
    documents: Sequence[np.ndarray]  # those of the validation split, (tokens,) each


class Reading:
    """A source that is about to be read; `facts` are there at once, or found out."""

    def __init__(self, named: Named, tokenizer: str, on_progress: OnProgress) -> None:
        """ValueError if the text cannot be had or used."""
        self.named = replace(named, origin=located(named.origin))
        self.on_progress, origin = on_progress, vars(self.named.origin)
        self.load: Callable[[], Corpus] = cache(
            partial(load_corpus, **origin, on_progress=on_progress)
        )
        self.facts = facts_of(self.named.origin, tokenizer, self.load, on_progress)

    def mapped(self, tokenizer: Tokenizer) -> MappedText:
        """Its tokens, mapped or made and mapped."""
        train, validation = self._tokens("train", tokenizer), self._tokens("validation", tokenizer)
        documents = split_documents(validation, tokenizer, self.facts.validation_documents)
        return MappedText(self.named, self.facts, train, validation, documents)

    def _tokens(self, split: str, tokenizer: Tokenizer) -> np.ndarray:
        what = f"Tokenizing the {split} text"
        return map_tokens(
            lambda: joined(getattr(self.load(), split), what, self.on_progress),
            getattr(self.facts, split),
            tokenizer,
            split,
            self.on_progress,
        )


def tokenizer_of(
    read: Sequence[Reading], name: str, vocab_size: int | None, on_progress: OnProgress
) -> Tokenizer:
    """The one tokenizer of all sources that `data.tokenizer` and `data.vocab_size` mean."""
    digests = [one.facts.train for one in read]
    return chosen_tokenizer(
        name,
        vocab_size,
        [one.facts.characters for one in read],
        lambda: [text for one in read for text in one.load().train],
        digests[0] if len(digests) == 1 else _joint(digests),
        on_progress,
    )


def _joint(digests: Sequence[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def byte_scale(sources: Sequence[MappedText], tokenizer: Tokenizer) -> float:
    """The bytes of the validation texts for each one that their tokens stand for.

    1 where the tokens stand for every byte of a text and for no others. Subwords may stand for a
    space at the beginning of a document, that it has not, or in normal forms of characters.
    """
    if kind_of(tokenizer.name) != SubwordTokenizer.name:
        return 1.0
    counted = sum(_bytes_of(source.validation, tokenizer) for source in sources)
    there = sum(source.facts.validation_bytes for source in sources)
    return there / counted if there and counted else 1.0


def _bytes_of(tokens: np.ndarray, tokenizer: Tokenizer) -> int:
    sizes = tokenizer.token_bytes
    return sum(int(sizes[tokens[at : at + BLOCK]].sum()) for at in range(0, len(tokens), BLOCK))


def named_sources(origin: Origin) -> list[Named]:
    """The sources of a corpus: itself, or those that `mix` mixes, each by a name of its own."""
    if origin.corpus != MIX:
        path = origin.path
        key = f"data.corpus={origin.corpus}" if path is None else f"data.path={path}"
        return [Named(origin.corpus, origin, key)]
    made: list[Named] = []
    for typed in origin.sources or ():
        name, where = source_of(typed)
        taken = {one.name for one in made}
        own = next(n for n in _numbered(_called(name, where)) if n not in taken)
        made.append(Named(own, Origin(name, where), f"data.sources: {typed}"))
    return made


def _called(corpus: str, path: str | None) -> str:
    """A corpus's name, or that of a file, or of the folder that a glob begins with."""
    parts = [part for part in Path(path or corpus).parts if not set(part) & set("*?[/")]
    return Path(parts[-1].partition("@")[0]).stem if parts else corpus  # @: a Hub's revision


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}-{n}" for n in range(2, 1000))


def lasting_sources(sources: Sequence[MappedText]) -> list[str]:
    """`data.sources` as they lead to the same texts from any folder, and at any time."""
    lasting = []
    for source in sources:
        origin = source.named.origin
        path, prefix = lasting_path(origin), "huggingface:" * (origin.corpus == "huggingface")
        lasting.append(origin.corpus if path is None else f"{prefix}{path}")
    return lasting


def shares_of(sources: Sequence[MappedText], weights: Sequence[float] | None) -> list[float]:
    """What part of the training windows each source gives, of sum 1; None: by its tokens."""
    given = [len(source.train) for source in sources] if weights is None else weights
    return [float(weight) / sum(given) for weight in given]


def fingerprint_of(sources: Sequence[MappedText], shares: Sequence[float]) -> dict[str, Any]:
    """What was read, plain data: of a mixture its sha256 and each source's."""
    if len(sources) == 1:
        return {"sha256": sources[0].facts.sha256}
    each = {
        source.named.name: {"share": share, "sha256": source.facts.sha256}
        for source, share in zip(sources, shares, strict=True)
    }
    digests = [source.facts.sha256 for source in sources]
    return {"sha256": _joint(digests), "sources": each}


def split_documents(
    tokens: np.ndarray, tokenizer: Tokenizer, documents: int
) -> Sequence[np.ndarray]:
    """Views of the documents in `tokens`, without the separators between them."""
    if documents == 1:
        return [tokens]
    return TokenDocuments.between(tokenizer.separator, tokens)
