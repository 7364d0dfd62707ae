"""Subword tokenizers: any model of the `tokenizers` library, from its JSON description.

That is BPE over bytes (GPT-2, Llama 3, Qwen), BPE over characters with bytes for the rest (Llama 2,
Gemma), Unigram and WordPiece. A text of any kind has no special tokens: the word "<|endoftext|>" in
a user's file is encoded as the letters that it is made of.
"""

import codecs
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from data.documents import by_document
from data.subword_blocks import encode_documents
from data.subword_files import read_files, separator_of
from data.subword_texts import UNREADABLE, decoder_kinds, texts_of_tokens
from data.token_ids import checked, token_dtype

if TYPE_CHECKING:
    from tokenizers import Encoding
    from tokenizers import Tokenizer as LibraryTokenizer

MOST_IDS = 2**32  # of the library's own kind
# What normalizers are known to change, in letters, spaces and characters that few texts have
PROBE = "\u00c4rger, THE na\u00efve \ufb01x:\n\n\tif x  == '1\u00bd':\r\n  \u20ac \U0001f600 "
HIDDEN = "\ufdd0"  # no character of any text


class SubwordTokenizer:
    """A model of the `tokenizers` library, as `data.tokenizers.Tokenizer`.

    Attributes:
        vocab_size: one more than the largest id; a model may have more rows.
        separator: the id that stands between documents; -1 where no special token is known for it.
    """

    name = "subword"

    def __init__(self, description: str, separator: str = "", where: str = "tokenizer") -> None:
        """`description`: the content of a tokenizer.json; `separator`: a token, or "" for none.

        Raises:
            ValueError: no description that the library can use. `where` begins its text.
        """
        content = _parse(description, where)
        self._json = json.dumps(content, separators=(",", ":"))
        self._whole = _library(self._json, where)
        self._encoder = _library(json.dumps(_for_text(content)), where)
        vocabulary = self._whole.get_vocab(with_added_tokens=True)
        if not vocabulary:
            raise ValueError(f"{where}: has no tokens; give another one")
        if separator and separator not in vocabulary:
            raise ValueError(f"{where}: has no token {separator!r}, its separator")
        self.vocab_size = max(vocabulary.values()) + 1
        self.separator = vocabulary[separator] if separator else -1
        self._separator = separator

    @classmethod
    def from_file(
        cls, path: str | os.PathLike[str], where: str | None = None
    ) -> "SubwordTokenizer":
        """The tokenizer of a tokenizer.json, or of the folder that holds one.

        `where` begins the text of errors; None: `data.tokenizer=<path>`.

        Raises:
            ValueError: no such file, or none that can be used.
        """
        where = f"data.tokenizer={path}" if where is None else where
        description, named = read_files(Path(path), where)
        return cls(description, separator_of(description, named), where)

    @cached_property
    def _texts(self) -> list[bytes]:
        """What each token stands for in the middle of a text, in UTF-8."""
        return texts_of_tokens(self._whole, self.vocab_size)

    @cached_property
    def _special(self) -> set[int]:
        added = self._whole.get_added_tokens_decoder()
        return {number for number, token in added.items() if token.special}

    @cached_property
    def token_bytes(self) -> np.ndarray:
        """UTF-8 bytes of the text of each token, int64 (vocab_size,); 0 for special ones."""
        sizes = np.fromiter(map(len, self._texts), dtype=np.int64, count=self.vocab_size)
        sizes[list(self._special)] = 0
        return sizes

    @cached_property
    def _numbers(self) -> np.ndarray:
        """The id of each of the encoder's own ids: they differ where it lacks special tokens."""
        numbers = self._whole.get_vocab(with_added_tokens=True)
        own = self._encoder.get_vocab(with_added_tokens=True)
        table = np.zeros(max(own.values(), default=0) + 1, dtype=token_dtype(self.vocab_size))
        for token, number in own.items():
            table[number] = numbers[token.removeprefix(HIDDEN)]
        return table

    @cached_property
    def is_lossy(self) -> bool:
        """Whether texts come back otherwise than they were: without case, accents or spaces."""
        return self.decode(self.encode(PROBE)) != PROBE

    @cached_property
    def beginning(self) -> list[int]:
        """The special tokens that the tokenizer itself puts before a text, such as Llama's <s>."""
        plain, whole = (
            self._whole.encode("a", add_special_tokens=special).ids for special in (False, True)
        )
        starts = range(len(whole) - len(plain) + 1)
        return next((whole[:i] for i in starts if whole[i : i + len(plain)] == plain), [])

    def encode(self, text: str) -> np.ndarray:
        """Unsigned (tokens,), without special tokens. ValueError for a lone surrogate."""
        (encoding,) = self._encode([text])
        return self._numbers[encoding.ids]

    def encode_blocks(self, blocks: Iterable[str]) -> Iterator[np.ndarray]:
        """The ids of a text that comes in blocks, in parts; its documents one by one.

        It may have any length: no more than a few of its blocks are in memory.
        """
        ended = False
        for ids in encode_documents(self._encode, by_document(blocks)):
            if ended:
                yield self._of_separator()
            ended = not ids
            yield self._numbers[ids]

    def _of_separator(self) -> np.ndarray:
        if self.separator < 0:
            raise ValueError(
                "data.tokenizer: has no special token to stand between the documents of a text; "
                "give a text of one file, or a tokenizer with one such as </s> or <|endoftext|>"
            )
        return np.array([self.separator], dtype=token_dtype(self.vocab_size))

    def _encode(self, texts: list[str]) -> "list[Encoding]":
        """What the library makes of each text, on all threads of the machine."""
        try:
            return self._encoder.encode_batch(texts)
        except TypeError as error:
            raise ValueError(
                "the text holds half of a surrogate pair, which is no text by itself; the text "
                "must be valid Unicode"
            ) from error
        except Exception as error:  # the library raises nothing more exact
            raise ValueError(
                f"the tokenizer has no token for something in the text ({error}); take another one"
            ) from error

    def decode(self, ids: ArrayLike) -> str:
        """Text of `ids`; bytes that are not UTF-8 become U+FFFD, special tokens their names.

        Ids that no token has stand for nothing: a model may have more than the tokenizer.
        """
        return b"".join(self._pieces(checked(ids, MOST_IDS).tolist())).decode("utf-8", "replace")

    def decode_stream(self, ids: Iterable[int], before: Iterable[int] = ()) -> Iterator[str]:
        """The text of `ids` behind that of `before`, every character with its last byte."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        begun = checked([*before], MOST_IDS).tolist()
        decoder.decode(b"".join(self._pieces(begun)))
        following = (checked(i, MOST_IDS).item() for i in ids)
        for piece in self._pieces(following, opening=not begun):
            if text := decoder.decode(piece):
                yield text
        if rest := decoder.decode(b"", final=True):
            yield rest

    def _pieces(self, ids: Iterable[int], opening: bool = True) -> Iterator[bytes]:
        """The bytes of each token; `opening`: the first of them begins a text."""
        for i in ids:
            if i < self.vocab_size:
                yield self._opening(i) if opening else self._texts[i]
            opening = False

    def _opening(self, i: int) -> bytes:
        """What a token stands for at the beginning of a text, where some lose their space."""
        text = self._whole.decode([i], skip_special_tokens=False).encode()
        inside = self._texts[i]
        lost = inside.removesuffix(text)
        return text if lost.isspace() else inside

    @property
    def sha256(self) -> str:
        """Of its state: which tokenizer it is."""
        return hashlib.sha256(json.dumps(self.state(), sort_keys=True).encode()).hexdigest()

    def state(self) -> dict[str, str]:
        """The content of a tokenizer.json, and the separator's token."""
        return {"name": self.name, "json": self._json, "separator": self._separator}


def _parse(description: str, where: str) -> dict[str, Any]:
    """The content of a tokenizer.json, all of whose ids are the text's. ValueError if damaged.

    The same text must always give the same ids: nothing is cut off, added or drawn at random.
    """
    _library(description, where)
    content = json.loads(description) | {"truncation": None, "padding": None}
    if wrong := UNREADABLE & decoder_kinds(content):
        raise ValueError(f"{where}: its decoder {wrong.pop()} does not tell which text a token is")
    if content["model"].get("dropout"):
        content["model"]["dropout"] = None
    return content


def _for_text(content: dict[str, Any]) -> dict[str, Any]:
    """What of a tokenizer.json encodes plain text, in which no special token is ever found.

    Without those that are added, also where the model itself has them among its words: there they
    get names that no text has. Without what is put around a text.
    """
    added, model = content.get("added_tokens") or [], dict(content["model"])
    special = {token["content"] for token in added if token.get("special")}
    special -= {model.get("unk_token")}
    words = model["vocab"]
    if isinstance(words, list):  # Unigram's
        model["vocab"] = [[_hidden(word, special), score] for word, score in words]
    elif "merges" not in model:  # as BPE has, whose words are joined from letters
        model["vocab"] = {_hidden(word, special): number for word, number in words.items()}
    plain = [token for token in added if not token.get("special")]
    return content | {"added_tokens": plain, "model": model, "post_processor": None}


def _hidden(word: str, special: set[str]) -> str:
    return HIDDEN + word if word in special else word


def _library(description: str, where: str) -> "LibraryTokenizer":
    """The library's object. ValueError where it finds the description damaged."""
    # Threads of the library's own in a process that forks workers: it would print a warning, and
    # the workers, which make batches of ids, never ask it for anything.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from tokenizers import Tokenizer as LibraryTokenizer

    try:
        return LibraryTokenizer.from_str(description)
    except Exception as error:  # the library raises nothing more exact
        raise ValueError(
            f"{where}: is no tokenizer.json that the tokenizers library can read "
            f"({str(error)[:200]}); get it anew from where it came"
        ) from error
