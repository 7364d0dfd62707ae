"""Which text each token of a `tokenizers` model stands for, in bytes.

A token may hold a part of a character only, so its text is bytes. What the library's decoder makes
of a token alone is not enough: it turns parts of characters into U+FFFD, and at the beginning of a
text some decoders drop a space that the token has everywhere else.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer as LibraryTokenizer

# A decoder whose token's text depends on more than whether the token is the first
UNREADABLE = {"BPEDecoder", "CTC"}
_PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def texts_of_tokens(library: "LibraryTokenizer", vocab_size: int) -> list[bytes]:
    """For each id below `vocab_size` the UTF-8 bytes of its text, as in the middle of a text.

    Special tokens have their names; ids that are no token have nothing.
    """
    kinds = decoder_kinds(json.loads(library.to_str()))
    texts = [b""] * vocab_size
    if "ByteLevel" in kinds:
        for token, number in library.get_vocab(with_added_tokens=True).items():
            texts[number] = _of_byte_level(token)
        return texts
    for number, text in enumerate(_decoded(library, vocab_size)):
        texts[number] = text.encode()
    if "ByteFallback" in kinds:
        for token, number in library.get_vocab(with_added_tokens=True).items():
            if byte := _BYTE.fullmatch(token):
                texts[number] = bytes.fromhex(byte[1])
    return texts


def decoder_kinds(description: Mapping[str, Any]) -> set[str]:
    """The names of a tokenizer.json's decoders, those within a sequence too."""
    return set(_kinds(description.get("decoder")))


def _kinds(decoder: Mapping[str, Any] | None) -> Iterator[str]:
    if decoder is not None:
        yield str(decoder.get("type"))
        for inner in decoder.get("decoders", ()):
            yield from _kinds(inner)


# GPT-2's alphabet of bytes: those that print stand for themselves, the others are 256 and up.
_ALPHABET = dict(zip(map(chr, _PRINTABLE), _PRINTABLE, strict=True)) | {
    chr(256 + n): byte for n, byte in enumerate(b for b in range(256) if b not in _PRINTABLE)
}
_TRANSLATION = {ord(character): byte for character, byte in _ALPHABET.items()}


def _of_byte_level(token: str) -> bytes:
    """A token that is written in the alphabet of bytes; an added one may be written as it is."""
    if _ALPHABET.keys() >= set(token):
        return token.translate(_TRANSLATION).encode("latin-1")
    return token.encode()


def _decoded(library: "LibraryTokenizer", vocab_size: int) -> Iterator[str]:
    """Each token's text behind another token, which is that of a letter."""
    anchor = (library.encode("a").ids or [0])[-1]
    before = library.decode([anchor], skip_special_tokens=False)
    pairs = [[anchor, number] for number in range(vocab_size)]
    for text in library.decode_batch(pairs, skip_special_tokens=False):
        yield text[len(before) :]
