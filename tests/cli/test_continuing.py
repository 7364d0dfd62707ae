"""Continuing prompts with a subword tokenizer, which knows fewer tokens than its model."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from cli.continuing import Continuing, Row
from cli.token_count import TokenCount
from cli.trained import Trained
from commands import some
from data.subwords import SubwordTokenizer
from model import Transformer, TransformerConfig

tokenizers = pytest.importorskip("tokenizers")
PROMPTS = ["abc", "c", "bab cab abc", "éa"]


def subwords() -> SubwordTokenizer:
    """BPE over bytes, <s> before every text, </s> between two."""
    library = tokenizers.Tokenizer(tokenizers.models.BPE())
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=270,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library.train_from_iterator(["abc cab bab"] * 9, trainer)
    library.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return SubwordTokenizer(library.to_str(), "</s>")


def trained(tokenizer: SubwordTokenizer, vocab_size: int) -> Trained:
    torch.manual_seed(0)
    sizes = {"n_layers": 1, "d_model": 32, "n_heads": 2, "tied_head": False}
    config = TransformerConfig(vocab_size=vocab_size, backend="pytorch", **sizes)
    net = Transformer(config).double().eval()
    return Trained(net, tokenizer, {"data": {"seq_len": 16}}, Path("x"), 0, {})


def config(**keys: object) -> dict:
    given = {"temperature": 1.0, "top_k": None, "top_p": None, "min_p": None, "method": "none"}
    given |= {"repetition_penalty": 1.2, "stop": None, "seed": 0, "samples": 2, "batch_size": 3}
    given |= {"stop_at_separator": False, "cuda_graph": "auto", "max_new_tokens": 12}
    return given | keys


def texts(model: Trained, prompts: Sequence[str] = PROMPTS, **keys: object) -> dict[Row, str]:
    continuing = Continuing.of(model, config(**keys))
    rows = continuing.rows(list(prompts), "prompts")
    return {row.label(rows[-1]): "".join(p) for row, p in continuing.texts(rows, TokenCount())}


@pytest.mark.parametrize(
    ("name", "init_from", "before"), [(None, None, []), ("x", None, [0]), (None, "x", [0])]
)
def test_prompts_begin_as_the_texts_of_the_training_did(
    name: str | None, init_from: str | None, before: list[int]
) -> None:
    """With <s>, which the tokenizer puts before a text, but for a model trained here alone."""
    model = trained(subwords(), 300)
    model.name, model.config["init_from"] = name, init_from
    first, *_ = Continuing.of(model, config()).rows(PROMPTS, "prompts")
    assert first.tokens.tolist() == [*before, *model.tokenizer.encode("abc").tolist()]


def test_only_what_the_tokenizer_knows_is_drawn() -> None:
    """By batches of any size the same texts; more ids than the tokenizer has would fail."""
    model = trained(subwords(), 600)
    together = texts(model)
    assert list(together)[:2] == ["prompt 1 of 4, sample 1 of 2", "prompt 1 of 4, sample 2 of 2"]
    assert len(set(together.values())) > 4
    assert together == texts(model, batch_size=1) == texts(model, batch_size=100)


def test_a_separator_ends_a_text() -> None:
    model = trained(subwords(), 300)
    with torch.no_grad():
        model.model.head.weight[1] *= 40  # </s>
    whole, ended = texts(model), texts(model, stop_at_separator=True)
    assert all(whole[row].startswith(text) for row, text in ended.items())
    assert any(len(text) < len(whole[row]) for row, text in ended.items())
    without = SubwordTokenizer(model.tokenizer.state()["json"])
    with pytest.raises(ValueError, match="stop_at_separator=true: the tokenizer has no token"):
        texts(trained(without, 300), stop_at_separator=True)


@pytest.mark.parametrize("method", some(["self-extend", "yarn", "crop", "logn"], default=1))
def test_batches_under_a_method_are_as_each_alone(method: str) -> None:
    model = trained(subwords(), 300)
    keys = {"method": method, "samples": 1, "max_new_tokens": 20}
    together = list(texts(model, **keys).values())
    assert together == [*(text for p in PROMPTS for text in texts(model, [p], **keys).values())]
