"""Prompts out of files, and streams that end where they should."""

from pathlib import Path

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from cli.prompts import prompts_of, until

LETTERS = st.text("ab\n", max_size=12)


@drawn(st.lists(LETTERS, max_size=6), st.lists(st.text("ab\n", min_size=1, max_size=3), max_size=3))
def test_a_stream_ends_before_the_first_stop(pieces: list[str], stops: list[str]) -> None:
    whole = "".join(pieces)
    ends: list[int] = []
    for n in range(len(whole) + 1):  # the first beginning that holds a stop
        found = [whole[:n].find(stop) for stop in stops if stop in whole[:n]]
        if found:
            ends = [min(found)]
            break
    got = "".join(until(iter(pieces), stops))
    assert whole.startswith(got) and not any(stop in got for stop in stops)
    assert (got == whole) == (not ends)
    assert not ends or len(got) == ends[0]  # however the text was cut into pieces
    assert "".join(until(["baaba"], ["ab", "aaba"])) == "".join(until("baaba", ["ab", "aaba"]))


def test_what_is_sure_comes_at_once_and_the_rest_is_held_back() -> None:
    asked: list[str] = []

    def pieces():
        for piece in "x", "E", "N", "y", "EN", "D", "never":
            asked.append(piece)
            yield piece

    stream = until(pieces(), ["END"])
    assert next(stream) == "x" and asked == ["x"]
    assert next(stream) == "ENy" and list(stream) == [""]
    assert asked[-1] == "D"  # nothing more is generated


def given(**keys: object) -> dict:
    return {"prompt": "b", "prompt_file": None, "prompts": None} | keys


def test_a_prompt_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("é\n".encode())
    assert prompts_of(given(prompt_file=tmp_path / "a.txt")) == ["é\n"]
    assert prompts_of(given()) == ["b"]
    (tmp_path / "latin.txt").write_bytes(b"ab\xe9")
    (tmp_path / "empty.txt").touch()
    wrong = {"no.txt": "cannot be read", "latin.txt": "offset 2", "empty.txt": "is empty"}
    for name, said in wrong.items():
        with pytest.raises(ValueError, match=f"prompt_file=.*{name}: .*{said}"):
            prompts_of(given(prompt_file=tmp_path / name))


def test_prompts_are_the_lines_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes("one \r\n\n  two\u2028é\n".encode())
    assert prompts_of(given(prompts=str(tmp_path / "p.txt"))) == ["one ", "  two\u2028é"]
    (tmp_path / "p.jsonl").write_text('{"prompt": "a\\nb", "id": 1}\n\n{"prompt": "c"}')
    assert prompts_of(given(prompts=str(tmp_path / "p.jsonl"))) == ["a\nb", "c"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.txt", "\n \n", "holds no prompt"),
        ("p.jsonl", '{"prompt": "a"}\n{"prompt"', "line 2: is no JSON"),
        ("p.jsonl", "[" * 100_000, "line 1: is no JSON"),
        ("p.jsonl", '\n{"text": "a"}', 'line 2: has no text in "prompt"'),
        ("p.jsonl", '["a"]', 'line 1: has no text in "prompt"'),
        ("p.jsonl", '{"prompt": ""}', 'line 1: has no text in "prompt"'),
    ],
)
def test_lines_that_hold_no_prompt(name: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=f"prompts=.*{name}.*{said}"):
        prompts_of(given(prompts=str(tmp_path / name)))
