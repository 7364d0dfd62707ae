"""The passkey in plain words, for tokenizers of subwords: what a model reads, and what counts."""

import re
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data.subwords import SubwordTokenizer
from evaluation.measures.passkey_retrieval import measure_passkey
from evaluation.measures.passkey_words import NAMES, Words, questions
from evaluation.statistics import wilson_ci95
from foreign_folder import trained_tokenizer

WORDS = "and the old river went by a house of stone, where nobody came; then it rained. So we left"
TEXT = " ".join(" ".join(words) for words in product(WORDS.split(), repeat=3))
STATED = re.compile(r"The key of the (\w+) is (\d{5})\. Remember: the key of the \1 is \2\.")
ASKED = re.compile(r" What is the key of the (\w+)\? The key of the \1 is (\d{5})$")


def spaces_first() -> SubwordTokenizer:
    """As of Llama 2: a space is put before every text, and no word is split off beforehand."""
    import tokenizers
    from tokenizers import decoders, normalizers, trainers

    made = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=True, unk_token="<unk>"))
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    alphabet = [chr(c) for c in range(32, 127)]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    words = [word for text in (TEXT[:4000], *NAMES) for word in text.split()]
    made.train_from_iterator([*words, " is a number 12345"], trainer)
    return SubwordTokenizer(made.to_str(), "</s>")


TOKENIZERS = {"bytes": trained_tokenizer([TEXT[:4000], *NAMES]), "spaces": spaces_first()}


class Reader(nn.Module):
    """A model that reads the text of its tokens and says the key, or one that is wrong."""

    def __init__(self, tokenizer: SubwordTokenizer, wrong: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.tokenizer, self.wrong = tokenizer, wrong
        self.rows: list[list[int]] = []

    def forward(self, tokens: Tensor, logits_to_keep: int) -> Tensor:
        logits = torch.zeros(len(tokens), tokens.shape[1], self.tokenizer.vocab_size)
        for logit, row in zip(logits, tokens.tolist(), strict=True):
            self.rows.append(row)
            answer = self.answer(row)
            at = torch.arange(len(row) - len(answer), len(row)) - 1
            logit[at, torch.tensor(answer)] = 1.0
        return logits[:, -logits_to_keep:]

    def answer(self, row: list[int]) -> list[int]:
        text = self.tokenizer.decode(row)
        asked = ASKED.search(text)
        assert asked, text[-120:]
        key = dict(match.groups() for match in STATED.finditer(text))[asked[1]]
        key = f"{(int(key) + 1) % 10**5:05d}" if self.wrong else key
        without = self.tokenizer.encode(text[: asked.start(2) - 1])
        return self.tokenizer.encode(text[: asked.start(2)] + key)[len(without) :].tolist()


def passkey(model: Reader, **settings) -> dict:
    given = {"context": 200, "trials": 22, "distractors": 0, "max_tokens_per_batch": 1000}
    documents = [model.tokenizer.encode(TEXT)]
    return measure_passkey(model, documents, model.tokenizer, **(given | settings))


@pytest.fixture(params=TOKENIZERS, scope="module")
def tokenizer(request) -> SubwordTokenizer:
    return TOKENIZERS[request.param]


@pytest.mark.parametrize("distractors", [0, 2])
def test_a_model_that_reads_has_all_and_its_context_is_a_text(
    tokenizer: SubwordTokenizer, distractors: int
) -> None:
    model, seen = Reader(tokenizer), []
    result = passkey(model, distractors=distractors, context=320, on_forward=seen.append)
    assert result["accuracy"] == result["digit_accuracy"] == 1.0
    assert result["ci95"] == wilson_ci95(22, 22) and result["trials"] == [2] * 11
    assert result["prompt"] == "plain words" and sum(seen) == 22 * 320
    for i, row in enumerate(model.rows):
        text = tokenizer.decode(row)
        stated = list(STATED.finditer(text))
        assert len(row) == 320 and len(stated) == 1 + distractors
        asked = ASKED.search(text)
        assert asked
        (needle,) = (match for match in stated if match[1] == asked[1])
        depth = needle.start() / (asked.start() - len(needle[0]))
        assert distractors or abs(depth - i % 11 / 10) < 0.1
        # From its first whole word on, it has the tokens that the tokenizer gives the text.
        start = Words(tokenizer).next_after(np.array(row), 1)
        tail = tokenizer.decode(row)[len(tokenizer.decode(row[:start])) :]
        stop = tokenizer.encode(".")
        assert tokenizer.encode(f".{tail}")[len(stop) :].tolist() == row[start:]


def test_a_wrong_key_counts_as_none(tokenizer: SubwordTokenizer) -> None:
    result = passkey(Reader(tokenizer, wrong=True))
    assert result["accuracy"] == 0.0 and 0 < result["digit_accuracy"] < 1


def test_a_trial_is_the_same_at_every_context_and_its_answer_is_the_key() -> None:
    tokenizer = TOKENIZERS["bytes"]

    def asked(**settings) -> list[str]:
        model = Reader(tokenizer)
        passkey(model, **settings)
        return [match[0] for row in model.rows if (match := ASKED.search(tokenizer.decode(row)))]

    reference = asked()
    assert reference == asked(context=401, max_tokens_per_batch=1) and len(set(reference)) == 22
    assert reference == asked(trials=30)[:22] and not set(reference) & set(asked(seed=1))
    (one,) = questions(tokenizer, np.array([[7, 8]], dtype=np.uint64), np.array([[713, 99]]), 1)
    assert tokenizer.decode(one.question[-one.answer :]).strip() == "00713"
    assert len(one.statements) == 2


def test_a_context_begins_as_the_models_training_texts_did() -> None:
    model = Reader(TOKENIZERS["bytes"])
    passkey(model, beginning=[0])
    assert all(row[0] == 0 and len(row) == 200 for row in model.rows)


def test_a_context_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="context too short: 60 tokens, but a passkey with 0"):
        passkey(Reader(TOKENIZERS["bytes"]), context=60)
