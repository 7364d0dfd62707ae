"""How documents are shared out between training and validation."""

import pytest

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
