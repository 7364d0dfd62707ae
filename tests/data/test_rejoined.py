"""Documents that were split are whole again where all of a text is scored."""

from pathlib import Path

import pytest

from data import Text, load_corpus
from data.texts import rejoined


def test_stretches_that_adjoin_are_one_document() -> None:
    one, other = Text.of("0123456789"), Text.of("abcdef")
    parts = [one[:4], other[:3], one[4:7], other[4:], one[7:]]
    assert sorted(map(str, rejoined(parts))) == ["0123456789", "abc", "ef"]
    assert rejoined([]) == []


@pytest.mark.parametrize("files", [1, 12])
def test_a_corpus_has_every_document_whole(files: int, tmp_path: Path) -> None:
    texts = {f"{n}.txt": f"document {n} " * (n + 20) for n in range(files)}
    for name, content in texts.items():
        (tmp_path / name).write_text(content)
    corpus = load_corpus("text", path=tmp_path)
    assert len(corpus.train) + len(corpus.validation) >= files
    assert sorted(map(str, corpus.documents)) == sorted(texts.values())
