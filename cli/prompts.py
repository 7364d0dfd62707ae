"""The text around generation: the prompt, and where a stream of text ends."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path


def prompt_of(prompt: str, prompt_file: str | None) -> str:
    """The prompt, or the text of the file that holds it. ValueError where that cannot be read."""
    if prompt_file is None:
        return prompt
    try:
        text = Path(prompt_file).read_bytes().decode("utf-8")
    except OSError as error:
        raise ValueError(
            f"prompt_file={prompt_file}: cannot be read ({error.strerror}); give a text file"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"prompt_file={prompt_file}: not UTF-8 text (offset {error.start}); convert it with "
            "iconv -t UTF-8"
        ) from error
    if not text:
        raise ValueError(f"prompt_file={prompt_file}: is empty; give a text, or prompt=")
    return text


def until(pieces: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
    """The pieces of a stream up to the first of `stops` in it, which is left out.

    What may be the beginning of a stop is held back until it is known.
    """
    held = ""
    for piece in pieces:
        held += piece
        found = [place for stop in stops if (place := held.find(stop)) >= 0]
        if found:
            yield held[: min(found)]
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
