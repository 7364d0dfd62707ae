"""The extrapolation measurement against models whose loss is known in closed form."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from evaluation import measure_extrapolation
from evaluation.measures.loss import same_target_nll
from evaluation.passages import choose_passages

VOCAB = 11
BYTES = np.ones(VOCAB, dtype=np.int64)
SHARPNESS = {"none": 1.0, "linear": 0.5, "ntk": 1.5, "yarn": 2.0}


class Fake(nn.Module):
    """Says `logits(tokens)` times a sharpness that each scaling method sets; records its calls."""

    def __init__(self, logits, scaling=None, position="rope"):
        super().__init__()
        self.logits = logits
        self.weight = nn.Parameter(torch.ones(()))
        self.inner = nn.Dropout()  # a submodule with a mode of its own
        own = {"method": "none", "train_length": None, "factor": None, **(scaling or {})}
        scaling = SimpleNamespace(method=own["method"], arguments=lambda: own)
        self.config = SimpleNamespace(position=position, scaling=scaling)
        self.calls, self.batches = [], []
        self.set_scaling(**own)
        self.calls.clear()

    def set_scaling(self, method, *, seq_len=None, train_length=None, factor=None, **options):
        assert not torch.is_inference_mode_enabled()  # or the model could not train on
        self.state = (method, seq_len, train_length, factor, options)
        self.calls.append(self.state)

    def forward(self, tokens, logits_to_keep):
        assert not self.training and not self.inner.training
        assert torch.is_inference_mode_enabled()
        self.batches.append(tuple(tokens.shape))
        logits = self.weight * SHARPNESS[self.state[0]] * self.logits(tokens)
        return logits[:, -logits_to_keep:]


def counting_document(n, start=0):
    """0, 1, 2, … modulo the vocabulary: the next token is always the last one plus one."""
    return (np.arange(start, start + n) % VOCAB).astype(np.uint16)


def next_logits(tokens):
    """2.0 for the true next token of a counting document, 0 for the others, anywhere."""
    return 2.0 * nn.functional.one_hot((tokens + 1) % VOCAB, VOCAB)


def position_logits(tokens):
    """The further in the window, the surer: logit (position + 1) / 8 for the true next token."""
    sure = (torch.arange(tokens.shape[1], device=tokens.device) + 1) / 8
    return sure[:, None] * nn.functional.one_hot((tokens + 1) % VOCAB, VOCAB)


def nll_of_logit(logit):
    return np.log(np.exp(logit) + VOCAB - 1) - logit


def measure(model, documents=None, **options):
    documents = [counting_document(1000)] if documents is None else documents
    return measure_extrapolation(model, documents, BYTES, train_length=16, **options)


# --- the loss --------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [16, 32, 50])
@pytest.mark.parametrize("max_tokens", [1, 100, 10_000])
def test_nll_of_each_target_is_exact_and_windows_end_at_the_same_place(context, max_tokens):
    passages = choose_passages([counting_document(700)], length=50, count=9)
    model = Fake(position_logits).eval()
    seen = []
    nll = same_target_nll(
        model, passages, context, 8, max_tokens_per_batch=max_tokens, on_forward=seen.append
    )
    positions = np.arange(context - 8, context)
    expected = np.tile(nll_of_logit((positions + 1) / 8), (9, 1))
    assert nll.dtype == np.float64
    np.testing.assert_allclose(nll, expected, rtol=1e-5, atol=2e-6)
    assert all(b == 1 or b * s <= max_tokens for b, s in model.batches)
    assert seen == [b * s for b, s in model.batches] and sum(seen) == 9 * context


def test_nll_of_a_bigram_model_is_its_table_whatever_the_context():
    rng = np.random.default_rng(3)
    table = rng.normal(size=(VOCAB, VOCAB))
    passages = choose_passages([rng.integers(0, VOCAB, 900)], length=64, count=5)
    log_p = table - np.log(np.exp(table).sum(axis=1, keepdims=True))
    expected = -log_p[passages[:, -9:-1], passages[:, -8:]]
    logits = torch.from_numpy(table).float()
    for context in (8, 16, 64):
        nll = same_target_nll(Fake(lambda t: logits[t]).eval(), passages, context, 8)
        np.testing.assert_allclose(nll, expected, rtol=1e-5)


def test_a_model_that_copies_gains_once_its_context_reaches_the_original():
    period = 30
    block = np.random.default_rng(0).integers(0, VOCAB, period)

    def copy(tokens):  # sure of the token one period back, where the window holds one
        logits = torch.zeros(*tokens.shape, VOCAB)
        known = tokens[:, : max(0, tokens.shape[1] - period + 1)]
        logits[:, period - 1 :] = 4.0 * nn.functional.one_hot(known, VOCAB)
        return logits

    result = measure(Fake(copy), [np.tile(block, 60)], methods=["none"])
    known, unknown = nll_of_logit(4.0), math.log(VOCAB)
    # At 32 inputs the last three of eight targets have their original inside the window.
    expected = [unknown, (5 * unknown + 3 * known) / 8, known, known]
    np.testing.assert_allclose(result.methods["none"]["nll"], expected, rtol=1e-5)
    assert result.lengths == [16, 32, 64, 128] and result.protocol["target_tokens"] == 8


def test_every_cell_is_measured_under_its_own_method_and_length():
    model = Fake(next_logits)
    result = measure(model)
    assert list(result.methods) == ["none", "linear", "ntk", "yarn"]
    for name, values in result.methods.items():
        logits = 2.0 * np.array([1.0] + [SHARPNESS[name]] * 3)  # at 1x all are as trained
        np.testing.assert_allclose(values["nll"], nll_of_logit(logits), rtol=1e-5)
    applied = [call[:4] for call in model.calls if call[0] != "none"]
    assert applied == [(m, n, 16, None) for n in (32, 64, 128) for m in ("linear", "ntk", "yarn")]
    assert result.reasons == {}


def test_the_training_length_is_computed_once_for_all_methods():
    model = Fake(next_logits)
    measure(model, lengths=[16], passages=4)
    assert model.batches == [(4, 16)] and model.calls == []


def test_a_model_trained_with_a_scaling_is_none_and_differs_from_every_method():
    scaling = {"method": "yarn", "train_length": 8, "factor": 2.0, "beta_fast": 16}
    model = Fake(next_logits, scaling)
    before = model.state
    result = measure(model, lengths=[16], methods=["none", "linear"])
    assert result.methods["none"]["nll"][0] == pytest.approx(nll_of_logit(4.0))
    assert result.methods["linear"]["nll"][0] == pytest.approx(nll_of_logit(1.0))
    assert model.state == before


def test_a_model_without_rotation_has_nothing_to_scale():
    result = measure(Fake(next_logits, position="nope"), methods=["none", "ntk"], lengths=[16, 32])
    figures = dict(result.methods["ntk"])
    assert figures.pop("per_checkpoint") == [[None] * 2]
    assert all(values == [None] * 2 for values in figures.values()) and {"nll", "bpb"} <= {*figures}
    assert None not in result.methods["none"]["nll"]
    assert "position=nope" in result.reasons["ntk"]["32"] and "none" not in result.reasons


# --- bits per byte and its interval ----------------------------------------------------------


def test_bits_per_byte_counts_the_bytes_of_the_targets_only():
    token_bytes = np.arange(1, VOCAB + 1)  # token t stands for t + 1 bytes
    document = counting_document(400)
    result = measure_extrapolation(
        Fake(next_logits), [document], token_bytes, train_length=16, lengths=[16], passages=3
    )
    targets = choose_passages([document], 16, 3)[:, -8:]
    n_bytes = (targets + 1).sum()
    assert result.protocol["target_bytes"] == n_bytes
    bits = targets.size * result.methods["none"]["nll"][0] / math.log(2)
    assert result.methods["none"]["bpb"][0] == pytest.approx(bits / n_bytes)


def test_a_single_passage_has_no_interval():
    result = measure(Fake(next_logits), [counting_document(30)], lengths=[16])
    assert result.protocol["passages"] == 1
    assert result.methods["none"]["ci95"] == [None] and result.methods["none"]["nll"][0] > 0


# --- what does not fit, and what goes wrong --------------------------------------------------


def test_lengths_that_the_documents_do_not_hold_are_null_with_the_reason():
    result = measure(Fake(next_logits), [counting_document(200)], methods=["none", "yarn"])
    for name in ("none", "yarn"):
        assert [value is None for value in result.methods[name]["bpb"]] == [
            False,
            False,
            True,
            True,
        ]
        assert sorted(result.reasons[name]) == ["128", "64"]  # 3 passages of 64 are too few
        assert "documents too short" in result.reasons[name]["64"]
    assert result.protocol["passages"] == 6  # of 32 + 1 tokens


def test_documents_too_short_for_anything_give_reasons_for_everything():
    result = measure(Fake(next_logits), [counting_document(10)])
    assert all(values["nll"] == [None] * 4 for values in result.methods.values())
    assert all(len(reasons) == 4 for reasons in result.reasons.values())


def test_out_of_memory_loses_that_cell_alone():
    def hungry(tokens):
        if tokens.shape[1] > 64:
            raise torch.cuda.OutOfMemoryError("tried to allocate")
        return next_logits(tokens)

    model = Fake(hungry)
    progress = []
    result = measure(model, on_progress=lambda done, total: progress.append((done, total)))
    for name, values in result.methods.items():
        assert values["ci95"][3] is None and None not in values["bpb"][:3]
        assert result.reasons[name] == {"128": "out of GPU memory"}
    assert progress[-1][0] == progress[-1][1]
    assert model.state[0] == "none"


def test_a_loss_that_is_not_finite_is_no_figure():
    result = measure(Fake(lambda t: next_logits(t) * math.nan), lengths=[16])
    assert result.methods["none"]["bpb"] == [None]
    assert result.reasons["none"] == {"16": "the loss is not finite"}


def test_model_is_as_before_after_success_and_after_an_exception():
    scaling = {"method": "linear", "train_length": 4, "factor": 4.0, "a": 1}
    good, before = Fake(next_logits, scaling), ("linear", None, 4, 4.0, {"a": 1})
    good.train()
    good.inner.eval()
    measure(good)
    assert good.state == before and good.training and not good.inner.training

    def breaks(tokens):
        if tokens.shape[1] > 16:
            raise RuntimeError("broken")
        return next_logits(tokens)

    bad = Fake(breaks, scaling)
    with pytest.raises(RuntimeError, match="broken"):
        measure(bad, methods=["yarn"])
    assert bad.calls[-2][0] == "yarn" and bad.state == before
    assert bad.training and bad.inner.training


def test_a_compiled_model_is_run_uncompiled():
    model = Fake(next_logits)

    def backend(*_):
        raise AssertionError("compiled")

    model.compile(backend=backend)
    measure(model, methods=["none"], lengths=[16, 32])
    assert len(model.batches) == 2


def test_progress_counts_input_tokens_up_to_the_total():
    progress = []
    measure(
        Fake(next_logits),
        lengths=[16, 32],
        methods=["none", "ntk"],
        passages=4,
        max_tokens_per_batch=64,
        on_progress=lambda done, total: progress.append((done, total)),
    )
    total = 4 * (16 + 32 + 32)
    assert progress == [(done, total) for done in (64, 128, 192, 256, 320)]


def test_the_measurement_repeats_itself_and_draws_no_random_numbers():
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, second = measure(Fake(position_logits)), measure(Fake(position_logits))
    for result in (first, second):
        for figures in result.methods.values():
            assert all(rate > 0 for rate in figures.pop("tokens_per_second"))  # the clock's
    assert first == second
    assert torch.equal(state[0], torch.get_rng_state())
    assert (state[1] == np.random.get_state()[1]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"lengths": [0]},
            r"lengths=\[0\]: must be .* an integer of at least 1; try lengths=\[256\]",
        ),
        ({"lengths": [16, -4, 2.5]}, r"lengths=\[16,-4,2.5\]: must be .*; try lengths=\[16,256\]"),
        ({"lengths": [True]}, r"lengths=\[True\]"),
        ({"lengths": []}, r"lengths=\[\]"),
        (
            {"methods": ["yarm"]},
            r"methods=\[yarm\]: no such method; did you mean yarn\? "
            r"There are: none, linear, ntk, dynamic, .*yarn, .*rerope, .*logn$",
        ),
        ({"methods": ["none", 7]}, r"methods=\[7\]: no such method; There are"),
        (
            {"methods": []},
            r"methods=\[\]: must be a list of one or more; try methods=\[none,yarn\]",
        ),
        ({"passages": 0}, "passages=0: must be an integer of at least 1; try passages=16"),
        ({"passages": "many"}, "passages=many"),
        ({"max_tokens_per_batch": -1}, "max_tokens_per_batch=-1"),
        ({"target_tokens": 0}, "target_tokens=0"),
        ({"target_tokens": 17}, r"target_tokens=17: must be at most .*valid: 1 to 16"),
    ],
)
def test_bad_input_is_said_before_anything_runs(options, message):
    model = Fake(next_logits)
    with pytest.raises(ValueError, match=message):
        measure(model, **options)
    assert model.batches == [] and model.calls == []


def test_lengths_are_sorted_and_repeats_dropped():
    result = measure(Fake(next_logits), lengths=[64, 16, 64], methods=["ntk", "none", "ntk"])
    assert result.lengths == [16, 64] and list(result.methods) == ["ntk", "none"]
