"""Rotary frequencies against hand-computed values and Hugging Face's functions."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from kernels import rope_phases
from model import ScalingConfig, Transformer, TransformerConfig, rope_frequencies
from model.scalings import SCALINGS, SETTINGS

THETA, DIM, TRAINED = 10000.0, 64, 512
SHORT = [1.0 + 0.01 * i for i in range(DIM // 2)]
LONG = [1.0 + 0.5 * i for i in range(DIM // 2)]

# method, arguments of ours beside train_length, seq_len, and rope_parameters of theirs
PEERS = [
    ("linear", {"factor": 4.0}, None, {}),
    ("dynamic", {"factor": 2.0}, 2048, {}),
    ("dynamic", {"factor": 1.0}, 2048, {}),
    ("dynamic", {"factor": 2.0}, 512, {}),
    ("dynamic", {"factor": 2.0}, 100, {}),
    ("yarn", {"factor": 4.0}, None, {}),
    ("yarn", {"factor": 8.0, "truncate": False}, None, {}),
    ("yarn", {"factor": 8.0, "beta_fast": 16.0, "beta_slow": 2.0}, None, {}),
    ("yarn", {"factor": 4.0, "beta_fast": 256.0}, None, {}),  # the ramp begins before pair 0
    ("yarn", {"factor": 4.0, "beta_slow": 1e-4}, None, {}),  # and ends past the last
    ("yarn", {"factor": 8.0, "mscale": 0.7, "mscale_all_dim": 1.3}, None, {}),
    ("yarn", {"factor": 8.0, "mscale": 1.0, "mscale_all_dim": 1.0}, None, {}),
    ("yarn", {"factor": 8.0, "attention_factor": 1.25}, None, {}),
    ("longrope", {"factor": 4.0, "short_factor": SHORT, "long_factor": LONG}, 512, {}),
    ("longrope", {"factor": 4.0, "short_factor": SHORT, "long_factor": LONG}, 513, {}),
    ("llama3", {"factor": 8.0}, None, {"low_freq_factor": 1.0, "high_freq_factor": 4.0}),
    ("llama3", {"factor": 4.0, "low_freq_factor": 2.0, "high_freq_factor": 16.0}, None, {}),
    ("proportional", {"partial_rotary_factor": 0.25}, None, {}),
    ("proportional", {"partial_rotary_factor": 0.7, "factor": 2.0}, None, {}),
]


@pytest.mark.parametrize("theta", [10000.0, 500.0])
@pytest.mark.parametrize(("method", "settings", "seq_len", "extra"), PEERS)
def test_equals_hugging_face(method, settings, seq_len, extra, theta):
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = transformers.LlamaConfig(
        hidden_size=DIM,
        num_attention_heads=1,
        head_dim=DIM,
        max_position_embeddings=TRAINED,
        rope_parameters={
            "rope_type": method,
            "rope_theta": theta,
            "original_max_position_embeddings": TRAINED,
            **settings,
            **extra,
        },
    )
    expected, expected_factor = ROPE_INIT_FUNCTIONS[method](config, "cpu", seq_len=seq_len)
    inv_freq, attention_factor = rope_frequencies(
        DIM, theta, method=method, train_length=TRAINED, seq_len=seq_len, **settings
    )
    assert inv_freq.dtype == torch.float64
    torch.testing.assert_close(inv_freq, expected.double(), rtol=2e-6, atol=1e-12)
    assert attention_factor == pytest.approx(expected_factor, rel=1e-12)


def plain(dim: int = DIM, theta: float = THETA) -> list[float]:
    return [theta ** (-2 * i / dim) for i in range(dim // 2)]


def assert_frequencies(actual: torch.Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(
        actual, torch.tensor(expected, dtype=torch.float64), rtol=1e-14, atol=0
    )


def test_none_is_the_formula_and_ignores_lengths():
    inv_freq, attention_factor = rope_frequencies(DIM, THETA, seq_len=4096, train_length=TRAINED)
    assert_frequencies(inv_freq, plain())
    assert attention_factor == 1.0


def test_ntk_stretches_the_slowest_pair_by_the_factor_and_keeps_the_first():
    inv_freq, attention_factor = rope_frequencies(DIM, THETA, method="ntk", factor=8.0)
    assert inv_freq[0] == 1.0
    assert inv_freq[-1].item() == pytest.approx(plain()[-1] / 8, rel=1e-13)
    assert_frequencies(inv_freq, plain(theta=THETA * 8 ** (64 / 62)))
    assert attention_factor == 1.0


def test_dynamic_with_factor_one_is_ntk_at_the_length():
    lengths = {"seq_len": 4096, "train_length": 512}
    dynamic, _ = rope_frequencies(DIM, THETA, method="dynamic", **lengths)
    ntk, _ = rope_frequencies(DIM, THETA, method="ntk", **lengths)
    assert torch.equal(dynamic, ntk)


def test_dynamic_has_no_memory_of_longer_calls():
    before, _ = rope_frequencies(DIM, method="dynamic", seq_len=512, train_length=512)
    rope_frequencies(DIM, method="dynamic", seq_len=8192, train_length=512)
    after, _ = rope_frequencies(DIM, method="dynamic", seq_len=512, train_length=512)
    assert torch.equal(before, after)
    assert_frequencies(after, plain())


def test_yarn_keeps_fast_pairs_and_divides_slow_ones():
    """With L=2048, d=64 and theta=1e4 the ramp runs from pair 8 to pair 21."""
    inv_freq, attention_factor = rope_frequencies(DIM, method="yarn", factor=4.0, train_length=2048)
    ramp = [min(max((i - 8) / 13, 0.0), 1.0) for i in range(32)]
    expected = [f / 4 * r + f * (1 - r) for f, r in zip(plain(), ramp, strict=True)]
    assert_frequencies(inv_freq, expected)
    assert attention_factor == pytest.approx(0.1 * math.log(4.0) + 1)


@pytest.mark.parametrize("settings", [{}, {"beta_fast": 16.0, "beta_slow": 2.0}])
def test_ntk_by_parts_is_yarn_without_its_temperature(settings):
    both = {"factor": 8.0, "train_length": TRAINED, **settings}
    parts, attention_factor = rope_frequencies(DIM, method="ntk-by-parts", **both)
    yarn, temperature = rope_frequencies(DIM, method="yarn", **both)
    assert torch.equal(parts, yarn)
    assert attention_factor == 1.0 < temperature


def test_ntk_by_parts_keeps_fast_pairs_and_divides_slow_ones():
    """With L=512, d=64 and theta=1e4 the ramp runs from pair 3 to pair 16."""
    inv_freq, _ = rope_frequencies(DIM, method="ntk-by-parts", factor=8.0, train_length=TRAINED)
    ramp = [min(max((i - 3) / 13, 0.0), 1.0) for i in range(32)]
    expected = [f / 8 * r + f * (1 - r) for f, r in zip(plain(), ramp, strict=True)]
    assert_frequencies(inv_freq, expected)


@pytest.mark.parametrize(
    ("train_length", "share"),
    [(4, 4.0), (10**9, 1.0)],  # no pair finishes a turn; every pair turns more than 32 times
)
def test_yarn_where_all_pairs_are_slow_or_all_fast(train_length, share):
    inv_freq, _ = rope_frequencies(DIM, method="yarn", factor=4.0, train_length=train_length)
    assert_frequencies(inv_freq[1:], [f / share for f in plain()[1:]])


@pytest.mark.parametrize("method", ["linear", "ntk", "ntk-by-parts", "yarn", "llama3"])
def test_factor_none_is_the_ratio_of_lengths_and_at_least_one(method):
    lengths = {"seq_len": 2048, "train_length": 512}
    by_ratio = rope_frequencies(DIM, method=method, **lengths)
    by_factor = rope_frequencies(DIM, method=method, factor=4.0, **lengths)
    assert torch.equal(by_ratio[0], by_factor[0]) and by_ratio[1] == by_factor[1]
    assert not torch.equal(by_ratio[0], rope_frequencies(DIM)[0])

    shorter, attention_factor = rope_frequencies(DIM, method=method, seq_len=64, train_length=512)
    torch.testing.assert_close(shorter, rope_frequencies(DIM)[0], rtol=1e-14, atol=0)
    assert attention_factor == 1.0


def test_longrope_factor_only_sets_the_temperature():
    lists = {"short_factor": SHORT, "long_factor": LONG, "train_length": 512, "seq_len": 1024}
    one, a = rope_frequencies(DIM, method="longrope", factor=1.0, **lists)
    four, b = rope_frequencies(DIM, method="longrope", factor=4.0, **lists)
    assert torch.equal(one, four)
    assert (a, b) == (1.0, pytest.approx(math.sqrt(1 + math.log(4) / math.log(512))))


@pytest.mark.parametrize("method", sorted(set(SCALINGS) - {"none", "longrope"}))
def test_smallest_rotary_dim(method):
    inv_freq, _ = rope_frequencies(2, method=method, factor=2.0, train_length=128, seq_len=256)
    assert inv_freq.shape == (1,) and 0 < inv_freq[0] <= 1


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"method": "yam"}, ["method=yam", "yarn"]),
        ({"method": "none", "factor": 2.0}, ["factor=2.0", "none"]),
        ({"method": "linear", "factor": 2.0, "beta_fast": 32}, ["beta_fast=32", "linear"]),
        ({"method": "llama3", "factor": 2.0}, ["train_length"]),
        ({"method": "linear"}, ["factor", "seq_len"]),
        ({"method": "linear", "factor": 0.5}, ["factor=0.5", "1"]),
        ({"method": "linear", "factor": math.nan}, ["factor=nan"]),
        ({"method": "linear", "factor": "4"}, ["factor=4", "number"]),
        ({"method": "linear", "factor": True}, ["factor=True"]),
        ({"method": "yarn", "factor": 2.0, "train_length": 8, "beta_slow": 64}, ["beta_fast"]),
        ({"method": "yarn", "factor": 2.0, "train_length": 8, "mscale": 1.0}, ["mscale_all_dim"]),
        ({"method": "longrope", "train_length": 8}, ["short_factor", "long_factor"]),
        (
            {"method": "longrope", "train_length": 8, "short_factor": [1.0], "long_factor": [1.0]},
            ["short_factor", "32"],
        ),
        ({"method": "ntk", "seq_len": 0, "train_length": 0}, ["seq_len=0", "train_length=0"]),
        ({"theta": -1.0}, ["theta=-1.0"]),
        ({"rotary_dim": 7}, ["rotary_dim=7", "even"]),
    ],
)
def test_what_is_wrong_is_said(arguments, names):
    arguments = {"rotary_dim": DIM, **arguments}
    with pytest.raises(ValueError) as error:
        rope_frequencies(**arguments)
    assert all(name in str(error.value) for name in names), str(error.value)


def test_every_method_refuses_an_option_that_it_does_not_use():
    for method in SCALINGS:
        with pytest.raises(ValueError, match="does not use it"):
            rope_frequencies(DIM, method=method, train_length=8, seq_len=8, sharpness=1.0)


# Partial rotation: which pairs it keeps


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_proportional_keeps_the_fastest_pairs_as_p_rope_does(share):
    """p-RoPE (arXiv:2410.06205): the whole head's frequencies, of which the slowest stand still."""
    full, kept = rope_frequencies(DIM)[0], round(share * DIM / 2)
    inv_freq, factor = rope_frequencies(DIM, method="proportional", partial_rotary_factor=share)
    assert factor == 1.0
    assert torch.equal(inv_freq[:kept], full[:kept]) and (inv_freq[kept:] == 0).all()


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_rope_fraction_spreads_fewer_pairs_over_the_same_range(share):
    """`rope.fraction` (GPT-J, NeoX) is not p-RoPE: slow pairs remain, as slow as before."""
    config = TransformerConfig(d_model=DIM, n_heads=1, fraction=share)
    full, fewer = rope_frequencies(DIM)[0], rope_frequencies(config.rotary_dim)[0]
    assert len(fewer) == round(share * DIM / 2)
    torch.testing.assert_close(fewer, full[:: round(1 / share)], rtol=1e-14, atol=0)
    p_rope = rope_frequencies(DIM, method="proportional", partial_rotary_factor=share)[0]
    assert fewer.min() < p_rope[p_rope > 0].min()


def test_a_model_trains_with_p_rope_from_its_config():
    scaling = ScalingConfig("proportional", options={"partial_rotary_factor": 0.25})
    model = Transformer(TransformerConfig(scaling=scaling, d_model=DIM, n_heads=1))
    for block in model.blocks:
        phases = block.attention.phases
        assert torch.equal(phases[:8], rope_phases(rope_frequencies(DIM)[0])[:8])
        assert (phases[8:] == 0).all()


def test_every_setting_of_a_scaling_has_a_rule():
    names = {field.name for scaling in SCALINGS.values() for field in dataclasses.fields(scaling)}
    assert names == SETTINGS.keys()


HUGE, EMPTY = 10**400, torch.empty(0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, HUGE, True, "4", [], {}, EMPTY, 1j])
def test_no_value_is_answered_by_anything_but_a_value_error(value):
    lists = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    for key in ("rotary_dim", "theta", "seq_len", "train_length", "factor", "long_factor"):
        given = {"rotary_dim": 16, "method": "longrope", "train_length": 8, **lists, key: value}
        with pytest.raises(ValueError, match=rf"^{key}="):
            rope_frequencies(**given)
    with pytest.raises(ValueError, match=r"rope\.theta="):
        TransformerConfig(theta=value)
    with pytest.raises(ValueError, match=r"^scaling="):
        TransformerConfig(scaling=value)


@pytest.mark.parametrize("scalar", [np.int64, np.float64, torch.tensor])
def test_scalars_of_numpy_and_torch_are_numbers(scalar):
    width = np.int64(16) if scalar is np.float64 else scalar(16)
    given, _ = rope_frequencies(width, scalar(500), method="linear", factor=scalar(4))
    assert torch.equal(given, rope_frequencies(16, 500.0, method="linear", factor=4.0)[0])
    assert TransformerConfig(theta=scalar(500)).theta == 500
    assert type(TransformerConfig(theta=scalar(500)).theta) in (int, float)
