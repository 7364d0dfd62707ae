"""The texts around generation: prompts, and where a stream of text ends."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any


def prompts_of(config: dict[str, Any]) -> list[str]:
    """The texts to be continued, by the keys prompts, prompt_file and prompt of generate.py.

    ValueError where a file cannot be read, or where there is no prompt in it.
    """
    if config["prompts"] is not None:
        return _listed(config["prompts"])
    if config["prompt_file"] is None:
        return [config["prompt"]]
    text = _read("prompt_file", config["prompt_file"])
    if not text:
        raise ValueError(f"prompt_file={config['prompt_file']}: is empty; give a text, or prompt=")
    return [text]


def _read(key: str, path: str) -> str:
    try:
        return Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise ValueError(
            f"{key}={path}: cannot be read ({error.strerror}); give a text file"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{key}={path}: not UTF-8 text (offset {error.start}); convert it with iconv -t UTF-8"
        ) from error


def _listed(path: str) -> list[str]:
    """A prompt from each line that is not blank: the line, or of a .jsonl its "prompt"."""
    as_json = Path(path).suffix.lower() in (".jsonl", ".ndjson")
    numbered = enumerate(_read("prompts", path).split("\n"), 1)
    lines = [(number, line.removesuffix("\r")) for number, line in numbered if line.strip()]
    if not lines:
        raise ValueError(f"prompts={path}: holds no prompt; give a file with one on each line")
    return [_field(line, f"prompts={path}, line {n}") if as_json else line for n, line in lines]


def _field(line: str, where: str) -> str:
    example = 'each line must be like {"prompt": "To be"}'
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # the last: brackets without end
        raise ValueError(f"{where}: is no JSON ({error}); {example}") from error
    prompt = row.get("prompt") if isinstance(row, dict) else None
    if not isinstance(prompt, str) or not prompt:
        raise ValueError(f'{where}: has no text in "prompt"; {example}')
    return prompt


def until(pieces: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
    """The pieces of a stream up to the one of `stops` that is whole first, which is left out.

    How the stream is cut into pieces has no part in it. What may be the beginning of a stop is held
    back until it is known.
    """
    held = ""
    for piece in pieces:
        held += piece
        found = [(at + len(stop), at) for stop in stops if (at := held.find(stop)) >= 0]
        if found:
            yield held[: min(found)[1]]
            return
        sure = len(held) - max((_begun(held, stop) for stop in stops), default=0)
        if sure:
            yield held[:sure]
        held = held[sure:]
    yield held


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of a text are a beginning of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
