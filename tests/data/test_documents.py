"""Many documents in one text: shared out whole, read in any blocks, and found again as tokens."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import ByteTokenizer
from data.documents import Chained, TokenDocuments, by_document, share_out, whole
from data.texts import SEPARATOR, Text, joined
from many_documents import DOCUMENT, DOCUMENTS


def read_back(texts: Iterable[Text]) -> list[str]:
    return ["".join(pieces) for text in texts for pieces in by_document(text)]


@settings(max_examples=80)
@given(documents=DOCUMENTS, block=st.integers(1, 9))
def test_documents_come_out_as_they_went_in(documents: list[str], block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data.documents.BLOCK", block)
        assert read_back(whole(lambda: iter(documents))) == documents
        splits = share_out(lambda: iter(documents))
        train, validation = read_back(splits["train"]), read_back(splits["validation"])
        size = sum(map(len, documents))
        tenth = sum(map(len, documents[9::10]))
        if documents and size / 20 <= tenth <= size / 5:
            assert validation == documents[9::10]
            assert train == [text for i, text in enumerate(documents) if i % 10 != 9]
        else:  # cut at nine tenths, with at most one document in both
            assert "".join(train + validation) == "".join(documents)
            assert len(train) + len(validation) - len(documents) in (0, 1)
            assert "" not in train + validation
        for texts in splits.values():
            assert all(len(text) == len(str(text)) for text in texts)
            assert max((len(one) for text in texts for one in text), default=0) <= block


@settings(max_examples=40)
@given(documents=DOCUMENTS, block=st.integers(1, 9), data=st.data())
def test_stretches_of_many_documents(documents: list[str], block: int, data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data.documents.BLOCK", block)
        for text in whole(lambda: iter(documents)):
            start, end = sorted(data.draw(st.tuples(st.integers(0, 99), st.integers(0, 99))))
            assert str(text[start:end]) == SEPARATOR.join(documents)[start:end]


def test_validation_is_a_sample_of_all_there_is() -> None:
    """Of documents that are sorted, too: none of them are at the end alone."""
    documents = [f"{i:04} " * 10 for i in range(1000)]
    validation = read_back(share_out(lambda: iter(documents))["validation"])
    assert validation == documents[9::10]


@pytest.mark.parametrize("giant", [0, 9])
def test_a_document_that_holds_nearly_everything_is_cut(giant: int) -> None:
    documents = ["small"] * 30
    documents[giant] = "large" * 1000
    splits = share_out(lambda: iter(documents))
    sizes = {split: sum(map(len, texts)) for split, texts in splits.items()}
    assert sizes["validation"] == pytest.approx(0.1 * sum(sizes.values()), abs=1)


def test_documents_are_read_anew_and_only_as_often_as_they_are_needed() -> None:
    calls: list[int] = []

    def read() -> Iterable[str]:
        calls.append(1)
        return iter(["document"] * 20)

    splits = share_out(read)
    assert len(calls) == 1  # to count them
    assert read_back(splits["validation"]) == read_back(splits["validation"]) == ["document"] * 2
    assert len(calls) == 3


@settings(max_examples=40)
@given(documents=st.lists(DOCUMENT, min_size=1, max_size=20), block=st.integers(1, 9))
def test_documents_are_found_again_in_tokens(documents: list[str], block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data.documents.BLOCK", block)
        text = "".join(joined(map(Text.of, documents)))
        tokens = ByteTokenizer().encode(text)
        found = TokenDocuments.between(0, tokens)
        assert [bytes(ids).decode() for ids in found] == documents
        assert [bytes(ids).decode() for ids in found[1:]] == documents[1:]
        assert np.shares_memory(found[0], tokens)
        one_by_one = TokenDocuments.of(ByteTokenizer().encode(text) for text in documents)
        assert [bytes(ids).decode() for ids in one_by_one] == documents
        assert one_by_one[0].dtype == np.uint8


def test_documents_one_sequence_after_the_other() -> None:
    parts = [[np.array([1]), np.array([2, 3])], [], [np.array([4])]]
    chained = Chained(parts)
    assert [ids.tolist() for ids in chained] == [[1], [2, 3], [4]]
    assert len(chained) == 3 and chained[-1].tolist() == [4]
    assert [ids.tolist() for ids in chained[1:]] == [[2, 3], [4]]
    with pytest.raises(IndexError):
        chained[3]
    assert len(Chained([])) == 0
