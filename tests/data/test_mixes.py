"""Texts mixed by weight: which windows are whose, what is validated, what is refused."""

import json
from collections import Counter
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data import TextDataModule, load_corpus
from data.batches import batch, chosen_sources
from data.mixes import mix_problems
from data.origin import Origin
from data.sources import lasting_sources, named_sources

SHARES = (0.2, 0.5, 0.3)
TEXTS = [np.arange(i * 1000, i * 1000 + 100 * (i + 1)) for i in range(3)]  # they tell whose


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two texts, of a and of b: 900 and 1,800 bytes for training, 100 and 200 for validation."""
    monkeypatch.setenv("ROPEWALK_CACHE", str(tmp_path / "cache"))
    for name, size in (("a", 1000), ("b", 2000)):
        (tmp_path / f"{name}.txt").write_text(name * size)
    return [str(tmp_path / f"{name}.txt") for name in "ab"]


def mix(sources: list[str], **options: object) -> TextDataModule:
    return TextDataModule("mix", sources=sources, **{"seq_len": 16, "batch_size": 8, **options})


def chi_squared(shares: tuple[float, ...], counts: Counter) -> float:
    expected = [share * counts.total() for share in shares]
    return sum((counts[i] - e) ** 2 / e for i, e in enumerate(expected))


# Which windows are whose


def test_each_text_gives_windows_by_its_share() -> None:
    shape = {"tokens": TEXTS, "seq_len": 16, "batch_size": 64, "shares": SHARES}
    counts: Counter = Counter()
    for step in range(200):
        inputs, targets = batch(1, step, **shape)
        assert np.array_equal(targets, inputs + 1)  # each within one text
        counts.update((inputs[:, 0] // 1000).tolist())
    assert chi_squared(SHARES, counts) < 13.8  # 2 degrees of freedom, p = 0.001
    assert chi_squared((0.25, 0.45, 0.3), counts) > 100  # what tells so little apart would


def test_windows_are_independent_of_each_other_and_of_their_starts() -> None:
    which = chosen_sources(0, 0, 0, 10_000, SHARES)
    pairs = Counter(zip(which[::2].tolist(), which[1::2].tolist(), strict=True))
    expected = {(i, j): 5000 * SHARES[i] * SHARES[j] for i, j in product(range(3), repeat=2)}
    assert sum((pairs[p] - e) ** 2 / e for p, e in expected.items()) < 26.1  # 8 degrees, p = 0.001
    inputs, _ = batch(0, 0, tokens=TEXTS, shares=SHARES, seq_len=16, batch_size=10_000)
    assert set(inputs[which == 0, 0].tolist()) == set(range(100 - 16))  # everywhere in its text


def test_which_text_hangs_on_seed_step_and_rank_alone() -> None:
    places = list(product((0, 2**40), (0, 10**6), (0, 7)))
    drawn = [chosen_sources(*place, 64, SHARES).tobytes() for place in places]
    assert len(set(drawn)) == len(places)
    again = [chosen_sources(*place, 64, SHARES).tobytes() for place in reversed(places)]
    assert drawn == again[::-1]


def test_a_share_of_nothing_gives_nothing() -> None:
    assert set(chosen_sources(0, 0, 0, 10_000, (0.0, 1.0, 0.0)).tolist()) == {1}


def test_one_text_gives_the_windows_that_it_gives_alone(texts: list[str]) -> None:
    alone = TextDataModule("text", texts[0], seq_len=16, batch_size=8, seed=3)
    mixed = mix(texts[:1], weights=[0.4], seed=3)
    for module in (alone, mixed):
        module.trainer = SimpleNamespace(max_steps=5, accumulate_grad_batches=1)
    for loader in ("train_dataloader", "val_dataloader"):
        batches = (list(getattr(module, loader)()) for module in (alone, mixed))
        for one, other in zip(*batches, strict=True):
            assert all(map(torch.equal, one, other))


# The module


@pytest.mark.parametrize("weights, b", [([3, 1], 1 / 4), (None, 2 / 3), ([0, 5], 1.0)])
def test_weights_are_shares_and_without_them_size_counts(
    texts: list[str], weights: list | None, b: float
) -> None:
    module = mix(texts, weights=weights)
    module.prepare()
    assert module.named_shares == pytest.approx({"a": 1 - b, "b": b})
    module.trainer = SimpleNamespace(max_steps=100, accumulate_grad_batches=1)
    inputs = torch.cat([inputs for inputs, _ in module.train_dataloader()])
    assert float((inputs == ord("b")).float().mean()) == pytest.approx(
        b, abs=0.06
    )  # 3.6 standard deviations


def test_each_text_is_validated_once_and_by_itself(texts: list[str]) -> None:
    module = mix(texts, val_tokens=150)
    loaders = module.val_dataloader()
    assert isinstance(loaders, list)
    for loader, letter, tokens in zip(loaders, "ab", (100, 150), strict=True):
        targets = torch.cat([targets.flatten() for _, targets in loader])
        assert bytes(targets[targets != -100].tolist()) == letter.encode() * (tokens - 1)
    assert [bytes(d) for d in module.val_documents] == [b"a" * 100, b"b" * 200]
    assert module.fingerprint["n_train_tokens"] == 2700
    assert module.fingerprint["n_val_tokens"] == 250


def test_one_vocabulary_for_all(texts: list[str]) -> None:
    module = mix(texts, tokenizer="char")
    module.prepare()
    assert module.tokenizer.state()["characters"] == "ab"
    decoded = [module.tokenizer.decode(source.train[:2]) for source in module.sources]
    assert decoded == ["aa", "bb"]


def test_the_fingerprint_is_of_all_texts_and_their_shares(texts: list[str]) -> None:
    def fingerprint(**options: object) -> dict:
        module = mix(texts, **options)
        module.prepare()
        return module.fingerprint

    before, weighted = fingerprint(), fingerprint(weights=[1, 1])
    assert before != weighted and before["sha256"] == weighted["sha256"]
    Path(texts[1]).write_text("c" * 2000)
    assert fingerprint()["sha256"] != before["sha256"]


def test_the_whole_mixture_can_be_held_out(texts: list[str]) -> None:
    corpus = load_corpus("mix", sources=texts)
    assert [str(text)[0] for text in corpus.validation] == ["a", "b"]


def test_names_of_sources_are_their_own() -> None:
    typed = ["stdlib", "x/notes.txt", "y/notes.md", "texts/*.txt", "/data/novels"]
    typed.append("huggingface:somebody/tales@0123abc")
    names = [one.name for one in named_sources(Origin("mix", sources=typed))]
    assert names == ["stdlib", "notes", "notes-2", "texts", "novels", "tales"]


@pytest.mark.slow
def test_a_data_set_of_hugging_faces_among_them(texts: list[str], tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "set").mkdir()
    rows = [json.dumps({"text": "c" * 100}) for _ in range(30)]
    (tmp_path / "set/train.jsonl").write_text("\n".join(rows))
    module = mix([texts[0], f"huggingface:{tmp_path}/set"], document_mask=True)
    module.prepare()
    assert [*module.named_shares] == ["a", "set"] and module.separator == 0
    assert lasting_sources(module.sources) == [texts[0], f"huggingface:{tmp_path}/set"]
    assert set(module.sources[1].train.tolist()) == {0, ord("c")}


# What is refused


def problems(**settings: object) -> list[str]:
    return mix_problems({"corpus": "mix", "sources": ["stdlib"], "weights": None, **settings})


@pytest.mark.parametrize(
    "settings, said",
    [
        (
            {"sources": None},
            "data.sources=null: data.corpus=mix needs one text or more, e.g. data=mix",
        ),
        ({"sources": []}, "data.sources=[]: must be null or a list of one or more"),
        ({"sources": "stdlib"}, "data.sources=stdlib: must be null or a list"),
        ({"sources": ["nosuch"]}, "data.sources: nosuch is no corpus, and no file"),
        ({"sources": ["shakespere"]}, "data.sources: shakespere is no corpus, "),
        ({"sources": ["mix"]}, "data.sources: mix names no text"),
        ({"sources": ["huggingface:no/such/set"]}, "data.sources: no/such/set: no such folder"),
        ({"sources": ["stdlib", "stdlib"]}, "data.sources=[stdlib,stdlib]: must name stdlib once"),
        (
            {"weights": [-1]},
            "data.weights=[-1]: must be null or a list of one or more, each a number",
        ),
        ({"weights": [float("nan")]}, "data.weights=[nan]: must be "),
        ({"weights": [0]}, "data.weights=[0]: must not all be 0; try data.weights=[1]"),
        (
            {"weights": [1, 2]},
            "data.weights=[1,2]: must be one for each of data.sources=[stdlib]; try",
        ),
        (
            {"corpus": "stdlib"},
            "data.sources=[stdlib]: data.corpus=stdlib is one text; try data=mix",
        ),
    ],
)
def test_wrong_mixtures_are_refused(settings: dict, said: str) -> None:
    (line,) = problems(**settings)
    assert line.startswith(said)
    with pytest.raises(ValueError, match=r"^data"):
        TextDataModule(**{"corpus": "mix", "sources": ["stdlib"], **settings})


def test_what_is_right_is_not_refused(texts: list[str]) -> None:
    assert not problems(sources=[*texts, "stdlib"], weights=[0, 1, 2.5])
    assert not problems(corpus="stdlib", sources=None)


def test_a_source_that_is_too_short_is_named(texts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"of data.sources: .*a\.txt has 100\n\(of 1000 in all\)"):
        mix(texts, seq_len=120).prepare()
