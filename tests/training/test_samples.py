"""Samples: prompt and continuation are told apart, in the file, in TensorBoard, on a terminal."""

import io
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.plugin_util import markdown_to_safe_html

from data.tokenizers import ByteTokenizer
from generate import as_prompt
from runs import fit
from training.callbacks.samples import markdown, told_apart
from training.samples_file import Sample, read_samples, sample_text

TRAPS = "|\n\r \t:-~`<b>*prompt:continuation0"  # what headings, marks and markdown are made of
TEXTS = st.text() | st.text(alphabet=TRAPS) | st.just("a\n\ncontinuation:\n| b\n--- step 3 ---\n")


@settings(max_examples=20, deadline=None)
@given(st.lists(st.builds(Sample, st.integers(0, 2**40), TEXTS, TEXTS)))
def test_what_is_written_is_read_again(samples: list[Sample]) -> None:
    assert read_samples("".join(map(sample_text, samples))) == samples


def test_a_file_of_before_is_read_as_continuations_and_goes_on() -> None:
    before = "--- step 150 ---\ndef x\n\n  y\n\n--- step 300 ---\n\nprompt: z\n\n"
    now = Sample(450, "def ", "x")
    assert read_samples(before + sample_text(now)) == [
        Sample(150, "", "def x\n\n  y"),
        Sample(300, "", "\nprompt: z"),
        now,
    ]
    assert read_samples("") == []


def test_a_run_writes_the_beginning_of_the_held_out_text_and_what_follows(home: Path) -> None:
    samples = ("callbacks=default", "callbacks.progress=null", "callbacks.samples.max_new_tokens=5")
    samples += ("+callbacks.samples.prompt_tokens=7",)
    run = fit(home, "samples", *samples, "trainer.max_steps=4")
    text = (home / "samples/samples.txt").read_bytes().decode()
    found = read_samples(text)
    data = run.prepared.data
    beginning = data.tokenizer.decode(data.val_tokens_array[:7])
    assert [(sample.step, sample.prompt) for sample in found] == [(2, beginning), (4, beginning)]
    assert all(1 <= len(sample.continuation) <= 5 for sample in found)
    assert text == "".join(map(sample_text, found))


def test_a_character_that_the_prompt_only_begins_is_the_continuations() -> None:
    ids = list("né né".encode())
    tokenizer = ByteTokenizer()
    assert told_apart(tokenizer, ids[:6], ids[6:]) == ("né n", "é")
    assert told_apart(tokenizer, ids[:6], [110]) == ("né n\ufffd", "n")
    assert told_apart(tokenizer, ids, [255]) == ("né né", "\ufffd")


@pytest.mark.parametrize(
    "text", ["  a\n\n    b", "<script>x</script>\n**c** [d](e)", "~~~\n```\nf"]
)
def test_in_tensorboard_the_text_is_inert_and_keeps_its_lines(text: str) -> None:
    html = markdown_to_safe_html(markdown(Sample(1, text, text)))
    escaped = text.replace("<", "&lt;").replace(">", "&gt;")
    blocks = re.findall(r"<code>(.*?)</code>", html, re.DOTALL)
    assert [block.removesuffix("\n") for block in blocks] == [escaped, escaped]
    assert re.findall(r"<strong>(.*?)</strong>", html) == ["prompt", "continuation"]


class Terminal(io.StringIO):
    """A stdout that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("out", "variables", "expected"),
    [
        (Terminal(), {}, "\033[1mdef \033[0m"),
        (Terminal(), {"NO_COLOR": "1"}, "def "),
        (Terminal(), {"TERM": "dumb"}, "def "),
        (io.StringIO(), {}, "def "),
    ],
)
def test_on_a_terminal_the_prompt_is_bold(out, variables, expected, monkeypatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", out)
    assert as_prompt("def ") == expected
