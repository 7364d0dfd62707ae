"""A tokenizer's files, as Hugging Face lays them out: where its description and separator stand."""

import json
from pathlib import Path
from typing import Any

DESCRIPTION, SETTINGS = "tokenizer.json", "tokenizer_config.json"
# Files of tokenizers that only transformers can read, with Python code
SLOW = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "vocab.txt")
# What ends or begins a text, where the settings do not say it, by how well it is known for it
ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "[SEP]")
BEGINNINGS = ("<s>", "<bos>", "<|begin_of_text|>", "[CLS]")


def read_files(path: Path, where: str) -> tuple[str, str | None]:
    """The content of a tokenizer.json, or of a folder's; and the token that ends a text, if said.

    Raises:
        ValueError: there is none, or it is no text. `where` begins its text.
    """
    path = path.expanduser()
    folder = path if path.is_dir() else path.parent
    file = path / DESCRIPTION if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"{where}: {_missing(path)}")
    try:
        return file.read_text(encoding="utf-8"), _end_in(folder / SETTINGS)
    except OSError as error:
        raise ValueError(f"{where}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where}: is no JSON, which is UTF-8 text; give a {DESCRIPTION}"
        ) from error


def separator_of(description: str, named: str | None) -> str:
    """The token to stand between documents: the one `named`, or the best known; "" for none."""
    try:
        content = json.loads(description)
        added = [token["content"] for token in content["added_tokens"] if token["special"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""  # no description: whoever makes a tokenizer of it will say so
    known = ([named] if named else []) + [*ENDS, *BEGINNINGS]
    return next((token for token in known if token in added), "")


def _missing(path: Path) -> str:
    if not path.is_dir():
        return f"no such file or folder; give a {DESCRIPTION}, or the folder that holds one"
    slow = next((name for name in SLOW if (path / name).is_file()), None)
    if slow is None:
        return f"holds no {DESCRIPTION}; give the folder of a model that has one"
    return (
        f"holds {slow} and no {DESCRIPTION}, the only form that is read here; transformers writes "
        f'it:\npython -c "from transformers import AutoTokenizer as T; '
        f"T.from_pretrained('{path}').save_pretrained('{path}')\""
    )


def _end_in(settings: Path) -> str | None:
    """The `eos_token` of a tokenizer_config.json, a text or the description of a token."""
    try:
        content: Any = json.loads(settings.read_text(encoding="utf-8"))
        token = content["eos_token"]
        return token if isinstance(token, str) else token["content"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
