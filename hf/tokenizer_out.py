"""Tokenizers as the files that AutoTokenizer loads: tokenizer.json and tokenizer_config.json.

Every text has the same ids there as here, and every list of ids the same text; those of subwords
are written as they are, and so may begin a text with a token of their own there.
"""

import json
from typing import TYPE_CHECKING, Any

from data import SEPARATOR, ByteTokenizer, CharTokenizer, Tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Fast


def tokenizer_files(tokenizer: Tokenizer, max_length: int) -> dict[str, str]:
    """The files by name, as text; `max_length`: of the model that reads its tokens."""
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "model_input_names": ["input_ids", "attention_mask"],  # else generate gets types as well
        "clean_up_tokenization_spaces": False,  # it would change the text
    }
    description = _description(tokenizer)
    for role, number in special_ids(tokenizer).items():
        config[f"{role}_token"] = _name(description, number)
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    return {"tokenizer.json": description, "tokenizer_config.json": text}


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """The ids that begin a text, end it and pad: bos, eos and pad.

    All of them are that of the separator, but for a tokenizer that begins every text with another
    one by itself. None where nothing stands between documents.
    """
    separator = tokenizer.separator
    if separator < 0:
        return {}
    beginning = [*tokenizer.beginning, separator]
    return {"bos": beginning[0], "eos": separator, "pad": separator}


def _name(description: str, number: int) -> str:
    """The token of an id."""
    from tokenizers import Tokenizer as Fast

    name = Fast.from_str(description).id_to_token(number)
    assert name is not None, number
    return name


def _description(tokenizer: Tokenizer) -> str:
    """The content of a tokenizer.json; of a tokenizer that has one, its own."""
    if isinstance(tokenizer, ByteTokenizer):
        return _bytes().to_str(pretty=True)
    if isinstance(tokenizer, CharTokenizer):
        return _characters(tokenizer.characters).to_str(pretty=True)
    return tokenizer.state()["json"]


def _bytes() -> "Fast":
    """256 tokens, in the order of the bytes.

    Byte 0 is its own character and an added token, which is cut out of a text before all else; the
    others are called as byte-level BPE calls them.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    names = [SEPARATOR, *(_byte_name(byte) for byte in range(1, 256))]
    fast = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[]))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens([SEPARATOR])
    return fast


def _byte_name(byte: int) -> str:
    """The character that stands for a byte in byte-level BPE (GPT-2): itself where it is printed,
    else one from U+0100 on."""
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    if byte in printed:
        return chr(byte)
    return chr(256 + sum(other not in printed for other in range(byte)))


def _characters(characters: str) -> "Fast":
    """A token for each of `characters`, in order; any other is an error, as it is here."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    vocab = {character: i for i, character in enumerate(characters)}
    fast = Tokenizer(models.WordLevel(vocab=vocab, unk_token=""))  # no token has this name
    fast.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    fast.decoder = decoders.Fuse()
    if SEPARATOR in characters:
        fast.add_special_tokens([SEPARATOR])
    return fast
