"""Prompts out of files, and streams that end where they should."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.prompts import prompt_of, until

LETTERS = st.text("ab\n", max_size=12)


@given(st.lists(LETTERS, max_size=6), st.lists(st.text("ab\n", min_size=1, max_size=3), max_size=3))
def test_a_stream_ends_before_the_first_stop(pieces: list[str], stops: list[str]) -> None:
    whole = "".join(pieces)
    ends: list[int] = []
    for n in range(len(whole) + 1):  # the first beginning that holds a stop
        found = [whole[:n].find(stop) for stop in stops if stop in whole[:n]]
        if found:
            ends = [min(found)]
            break
    # A piece may complete two stops at once: the earlier one counts.
    got = "".join(until(iter(pieces), stops))
    assert whole.startswith(got) and not any(stop in got for stop in stops)
    assert (got == whole) == (not ends)
    assert not ends or len(got) <= ends[0]


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


def test_a_prompt_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("é\n".encode())
    assert prompt_of("b", str(tmp_path / "a.txt")) == "é\n" and prompt_of("b", None) == "b"
    (tmp_path / "latin.txt").write_bytes(b"ab\xe9")
    (tmp_path / "empty.txt").touch()
    wrong = {"no.txt": "cannot be read", "latin.txt": "offset 2", "empty.txt": "is empty"}
    for name, said in wrong.items():
        with pytest.raises(ValueError, match=f"prompt_file=.*{name}: .*{said}"):
            prompt_of("b", str(tmp_path / name))
