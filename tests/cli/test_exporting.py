"""What export.py writes beside the weights."""

from pathlib import Path

import pytest

from cli.exporting import exported_tokenizer
from cli.trained import Trained
from data.subwords import SubwordTokenizer
from model import Transformer, TransformerConfig
from subword_models import byte_fallback


@pytest.mark.parametrize("init_from", [None, "models/x"])
def test_an_exported_tokenizer_begins_texts_as_in_training(
    init_from: str | None,
) -> None:
    """Without <s>, which the tokenizer puts before a text, for a model trained here alone."""
    ours = SubwordTokenizer(byte_fallback(), "</s>")
    net = Transformer(TransformerConfig(vocab_size=ours.vocab_size, d_model=16, n_heads=2))
    written = exported_tokenizer(Trained(net, ours, {"init_from": init_from}, Path("x"), 0, {}))
    assert isinstance(written, SubwordTokenizer)
    assert written.beginning == ([1] if init_from else [])
    assert written.encode("a text").tolist() == ours.encode("a text").tolist()
    assert (written.separator, written.vocab_size) == (ours.separator, ours.vocab_size)
