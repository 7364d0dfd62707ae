"""samples.txt: what a model wrote while it was trained, readable by people and by programs.

    --- step 150 ---
    prompt:
    | def foo(
    continuation:
    | x):
    |     return x

Every line of the text has `| ` before it, so that no text can be taken for a heading.
"""

import re
from typing import NamedTuple

SAMPLES = "samples.txt"
_HEADING = re.compile(r"^--- step (\d+) ---\n", re.MULTILINE)
_PROMPT, _CONTINUATION, _MARK = "prompt:\n", "continuation:\n", "| "


class Sample(NamedTuple):
    """What was written after `step` optimizer steps; the prompt is held-out text."""

    step: int
    prompt: str
    continuation: str


def sample_text(sample: Sample) -> str:
    """An entry of samples.txt."""
    prompt, continuation = _marked(sample.prompt), _marked(sample.continuation)
    return f"--- step {sample.step} ---\n{_PROMPT}{prompt}{_CONTINUATION}{continuation}\n"


def read_samples(text: str) -> list[Sample]:
    """The entries of samples.txt, in their order.

    `text` is the whole file, its newlines as they are (`newline=""`). In files of before, prompt
    and continuation are not told apart: all of an entry is its continuation there.
    """
    _, *parts = _HEADING.split(text)
    return [_read(int(step), body) for step, body in zip(parts[::2], parts[1::2], strict=True)]


def _read(step: int, body: str) -> Sample:
    prompt, middle, continuation = body.removesuffix("\n").partition(f"\n{_CONTINUATION}")
    if not (middle and prompt.startswith(f"{_PROMPT}{_MARK}")):
        return Sample(step, "", body.removesuffix("\n\n"))
    return Sample(step, _plain(prompt.removeprefix(_PROMPT)), _plain(continuation))


def _marked(text: str) -> str:
    """Each line marked and ended, also the last."""
    return "".join(f"{_MARK}{line}\n" for line in text.split("\n"))


def _plain(marked: str) -> str:
    lines = marked.removesuffix("\n").split("\n")
    return "\n".join(line.removeprefix(_MARK) for line in lines)
