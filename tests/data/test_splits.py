"""How documents are shared out between training and validation."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.corpora import split_by_document, split_by_position


@pytest.mark.parametrize("count", [10, 11, 57])
def test_split_by_document_is_disjoint_and_complete(count: int) -> None:
    documents = {f"file{i}": f"text {i} " * (1 + i * i % 17) for i in range(count)}
    splits = split_by_document(documents, share=0.1)
    assert splits["validation"]
    assert sorted(splits["train"] + splits["validation"]) == sorted(documents.values())
    assert sum(map(len, splits["validation"])) <= 0.1 * sum(map(len, documents.values()))
    assert splits["train"] == [t for t in documents.values() if t not in splits["validation"]]


def test_split_by_document_does_not_hang_on_the_order() -> None:
    documents = {f"file{i}": "x" * (i + 1) for i in range(40)}
    backwards = dict(reversed(documents.items()))
    first, second = split_by_document(documents, 0.1), split_by_document(backwards, 0.1)
    assert first["validation"] == second["validation"]


def test_split_by_position() -> None:
    splits = split_by_position(["0123456789" * 3, "abc"])
    assert splits == {"train": ["0123456789" * 2 + "0123456", "ab"], "validation": ["789", "c"]}


SIZES = st.lists(st.integers(1, 10) | st.integers(100, 10**4), min_size=10, max_size=30)


@settings(max_examples=60)
@given(SIZES)
def test_about_a_tenth_is_held_out_whatever_the_sizes(sizes: list[int]) -> None:
    total = sum(sizes)
    documents = {f"{i}.txt": f"{i % 10}" * size for i, size in enumerate(sizes)}
    splits = split_by_document(documents, share=0.1)
    held_out = sum(map(len, splits["validation"]))
    assert held_out + sum(map(len, splits["train"])) == total
    if total >= 200:  # the tenth of a smaller text is too few characters to be near
        assert 0.05 * total - 1 <= held_out <= 0.15 * total


def before(documents: dict[str, str], share: float) -> dict[str, list[str]]:
    """The split as it was before anything was cut: by it the runs of then are resumed."""
    room = int(share * sum(map(len, documents.values())))
    validation = []
    for name in sorted(documents, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if len(documents[name]) <= room:
            validation.append(name)
            room -= len(documents[name])
    chosen = set(validation)
    return {
        "train": [text for name, text in documents.items() if name not in chosen],
        "validation": [documents[name] for name in validation],
    }


@settings(max_examples=60)
@given(SIZES, st.sampled_from([0.05, 0.1]))
def test_a_split_that_is_near_the_share_is_as_it_was(sizes: list[int], share: float) -> None:
    documents = {f"{i}.txt": f"{i % 10}" * size for i, size in enumerate(sizes)}
    old, new = before(documents, share), split_by_document(documents, share)
    near = sum(map(len, old["validation"])) >= int(share * sum(sizes)) / 2
    assert (new == old) == near


@pytest.mark.parametrize("large", range(10))
def test_a_large_file_among_small_ones(large: int) -> None:
    documents = {f"{i}.txt": "small\n" for i in range(10)}
    documents[f"{large}.txt"] = "".join(f"{i:07} rope\n" for i in range(88_461))
    splits = split_by_document(documents, share=0.1)
    held_out = sum(map(len, splits["validation"]))
    assert held_out == (13 * 88_461 + 9 * 6) // 10
    (tail,) = (text for text in splits["validation"] if "rope" in text)
    (head,) = (text for text in splits["train"] if "rope" in text)
    assert head + tail == documents[f"{large}.txt"]
    assert sum(map(len, before(documents, 0.1)["validation"])) == 54  # all that was held out
