"""From text to token ids and back: bytes, the characters of a corpus, or subwords.

A tokenizer's `state()` is a plain dict of strings, which a checkpoint carries along. It encodes a
text in blocks as it does the whole.
"""

import codecs
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike

from common.rules import one_of, problems, refuse
from data.subwords import SubwordTokenizer
from data.texts import SEPARATOR
from data.token_ids import checked, token_dtype

MAX_CHARACTERS = 65_536  # as many as uint16 ids can tell apart


class Tokenizer(Protocol):
    """What the rest of the house may ask of a tokenizer."""

    name: str
    vocab_size: int

    @property
    def token_bytes(self) -> np.ndarray:
        """UTF-8 bytes of the text of each token: int64 (vocab_size,); 0 for special tokens."""
        ...

    @property
    def separator(self) -> int:
        """The id that stands between documents; -1, which no token has, where there is none."""
        ...

    @property
    def beginning(self) -> list[int]:
        """The ids that a text to go on from begins with, before its own; mostly none."""
        ...

    def encode(self, text: str) -> np.ndarray:
        """Token ids of `text`, an unsigned integer array (tokens,), without special tokens."""
        ...

    def encode_blocks(self, blocks: Iterable[str]) -> Iterator[np.ndarray]:
        """The ids of a text that comes in blocks, in parts in `token_dtype`.

        A SEPARATOR in the text ends a document: it becomes `separator`, and what is on either side
        has the ids that `encode` gives for the whole of it.
        """
        ...

    def decode(self, ids: ArrayLike) -> str:
        """The text of `ids` (tokens,)."""
        ...

    def decode_stream(self, ids: Iterable[int], before: Iterable[int] = ()) -> Iterator[str]:
        """The text of `ids` as they come, in pieces, every character as soon as it is whole.

        The pieces together are `decode` of all of them; with ids `before` them, what `decode` of
        both has more than that of those.
        """
        ...

    def state(self) -> dict[str, str]:
        """All that `tokenizer_from_state` needs to build this tokenizer again."""
        ...


class ByteTokenizer:
    """The UTF-8 bytes of the text are its ids: 256 tokens, any text, nothing to train."""

    name = "byte"
    vocab_size = 256
    separator = ord(SEPARATOR)
    beginning: ClassVar[list[int]] = []

    @cached_property
    def token_bytes(self) -> np.ndarray:
        """One byte each: int64 (256,)."""
        return np.ones(256, dtype=np.int64)

    def encode(self, text: str, before: int = 0) -> np.ndarray:
        """uint8 (bytes,), read-only. ValueError for a lone surrogate, which UTF-8 has not.

        `before`: characters of a longer text that stand before it, to be counted in errors.
        """
        try:
            return np.frombuffer(text.encode("utf-8"), dtype=np.uint8)
        except UnicodeEncodeError as error:
            raise ValueError(
                f"character {before + error.start} of the text is {text[error.start]!r}, half of a "
                "surrogate pair, which is no text by itself; the text must be valid Unicode"
            ) from error

    def encode_blocks(self, blocks: Iterable[str]) -> Iterator[np.ndarray]:
        """A part for each block."""
        return _by_blocks(self.encode, blocks)

    def decode(self, ids: ArrayLike) -> str:
        """Text of the bytes `ids`; bytes that are not UTF-8 become U+FFFD."""
        return checked(ids, self.vocab_size).astype(np.uint8).tobytes().decode("utf-8", "replace")

    def decode_stream(self, ids: Iterable[int], before: Iterable[int] = ()) -> Iterator[str]:
        """The text of the bytes `ids`, a character with its last byte."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoder.decode(checked([*before], self.vocab_size).astype(np.uint8).tobytes())
        for i in ids:
            if piece := decoder.decode(checked(i, self.vocab_size).astype(np.uint8).tobytes()):
                yield piece
        if rest := decoder.decode(b"", final=True):
            yield rest

    def state(self) -> dict[str, str]:
        """Nothing but the name."""
        return {"name": self.name}


class CharTokenizer:
    """One token per character of a fixed vocabulary, numbered in code point order."""

    name = "char"
    beginning: ClassVar[list[int]] = []

    def __init__(self, characters: Iterable[str]) -> None:
        """`characters`: any iterable of characters, a text for instance; repeats do no harm.

        Raises:
            ValueError: none at all, or more than 65,536 different ones.
        """
        self.characters = "".join(sorted(set(characters)))
        self.vocab_size = len(self.characters)
        if not 0 < self.vocab_size <= MAX_CHARACTERS:
            raise ValueError(
                f"data.tokenizer=char: the text has {self.vocab_size:,} different characters; "
                f"must be 1 to {MAX_CHARACTERS:,}. data.tokenizer=byte takes any text"
            )

    @cached_property
    def token_bytes(self) -> np.ndarray:
        """UTF-8 bytes of each character: int64 (vocab_size,), each 1 to 4."""
        points = self._points
        longer = [(points >= first).astype(np.int64) for first in (0x80, 0x800, 0x10000)]
        return np.sum(longer, axis=0) + 1

    @cached_property
    def separator(self) -> int:
        """The token of "\\0"; -1 where no two documents have given it to the vocabulary."""
        return self.characters.find(SEPARATOR)

    @cached_property
    def _points(self) -> np.ndarray:
        """Code point of each token, ascending."""
        return code_points(self.characters)

    @cached_property
    def _ids(self) -> np.ndarray:
        """The token of every code point, or `vocab_size` for those that have none."""
        table = np.full(0x110000, self.vocab_size, dtype=np.uint32)
        table[self._points] = np.arange(self.vocab_size, dtype=np.uint32)
        return table

    def encode(self, text: str, before: int = 0) -> np.ndarray:
        """uint8 or uint16 (characters,). ValueError names a character outside the vocabulary."""
        ids = self._ids[code_points(text)]
        if unknown := np.flatnonzero(ids == self.vocab_size)[:1].tolist():
            raise ValueError(
                f"data.tokenizer=char: character {before + unknown[0]} of the text, "
                f"{text[unknown[0]]!r}, is none of the {self.vocab_size} that it was built on: "
                f"{self.characters[:100]!r}"
            )
        return ids.astype(token_dtype(self.vocab_size))

    def encode_blocks(self, blocks: Iterable[str]) -> Iterator[np.ndarray]:
        """A part for each block."""
        return _by_blocks(self.encode, blocks)

    def decode(self, ids: ArrayLike) -> str:
        """Text of `ids`; ValueError for an id outside the vocabulary."""
        return "".join(self.characters[i] for i in checked(ids, self.vocab_size).tolist())

    def decode_stream(self, ids: Iterable[int], before: Iterable[int] = ()) -> Iterator[str]:
        """One character for each id."""
        return map(self.decode, ids)

    def state(self) -> dict[str, str]:
        """The name and the vocabulary, as one string in the order of the ids."""
        return {"name": self.name, "characters": self.characters}


TOKENIZERS = (ByteTokenizer.name, CharTokenizer.name)


def build_tokenizer(name: str, texts: Iterable[str]) -> Tokenizer:
    """The tokenizer `name`, byte or char, for these texts, all that it will have to encode.

    Raises:
        ValueError: no such tokenizer, or texts that it cannot be built on.
    """
    _check_name(name, TOKENIZERS)
    if name == ByteTokenizer.name:
        return ByteTokenizer()
    return CharTokenizer(set().union(*texts))


def tokenizer_from_state(state: Mapping[str, str]) -> Tokenizer:
    """The tokenizer whose `state()` this is; ValueError for a name that there is not."""
    _check_name(state.get("name"), (*TOKENIZERS, SubwordTokenizer.name))
    if state["name"] == ByteTokenizer.name:
        return ByteTokenizer()
    if state["name"] == SubwordTokenizer.name:
        return SubwordTokenizer(state["json"], state["separator"])
    return CharTokenizer(state["characters"])


def _check_name(name: object, names: Sequence[str]) -> None:
    refuse(problems({"data.tokenizer": name}, {"data.tokenizer": one_of(names, "byte")}))


def encode_whole(tokenizer: Tokenizer, blocks: Iterable[str]) -> np.ndarray:
    """All ids of a text that comes in blocks, (tokens,): in memory, and the text is not."""
    ids = bytearray()
    for part in tokenizer.encode_blocks(blocks):
        ids += part.data
    return np.frombuffer(ids, dtype=token_dtype(tokenizer.vocab_size))


def _by_blocks(
    encode: Callable[[str, int], np.ndarray], blocks: Iterable[str]
) -> Iterator[np.ndarray]:
    """Where no token stands for more than a character, the blocks as they come.

    `encode`: of a block, behind so many characters.
    """
    before = 0
    for block in blocks:
        yield np.ascontiguousarray(encode(block, before))
        before += len(block)


def code_points(text: str) -> np.ndarray:
    """uint32 (characters,)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
