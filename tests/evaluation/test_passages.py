"""Passages: in one document each, disjoint, evenly spread."""

import numpy as np
import pytest

from evaluation.passages import choose_passages


@pytest.mark.parametrize("count", [1, 3, 7, 10, 1000])
def test_passages_lie_in_one_document_and_never_overlap(count):
    sizes = [5, 40, 41, 100, 3, 83]
    ids = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])  # every token tells its place
    passages = choose_passages(ids, length=40, count=count)
    assert passages.dtype == np.int64 and passages.shape == (min(count, 5), 41)
    assert (np.diff(passages, axis=1) == 1).all()
    assert len(np.unique(passages)) == passages.size
    document = np.repeat(np.arange(len(sizes)), sizes)
    assert (document[passages] == document[passages][:, :1]).all()


def test_passages_are_spread_over_a_long_document():
    starts = choose_passages([np.arange(10_000)], length=9, count=10)[:, 0]
    gaps = np.diff([-starts[0], *starts, 20_000 - starts[-1]])
    assert gaps.min() >= 900 and gaps.max() <= 1100


def test_spare_tokens_of_a_document_lie_between_its_passages():
    starts = choose_passages([np.arange(29)], length=9, count=2)[:, 0]
    assert list(starts) == [3, 16]  # 9 spare tokens in three equal gaps


def test_no_passages_in_documents_that_are_all_too_short():
    assert choose_passages([np.arange(10)] * 5, length=10, count=4).shape == (0, 11)
    assert choose_passages([], length=10, count=4).shape == (0, 11)
