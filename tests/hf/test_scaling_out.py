"""`rope_parameters`: transformers computes from them what we compute."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf.scaling_out import max_positions, rope_parameters
from model import ScalingConfig, TransformerConfig, rope_frequencies

TRAIN = 256
PAIRS = 8
LISTS = {"short_factor": [1.0] * PAIRS, "long_factor": [1.0 + i / 2 for i in range(PAIRS)]}
YARN = {"beta_fast": 16.0, "beta_slow": 2.0, "truncate": False}
# The arguments of set_scaling, and a length that they are asked for.
CASES: list[tuple[dict[str, Any], int]] = [
    ({"method": "none"}, 512),
    ({"method": "linear", "factor": 3.0}, 512),
    ({"method": "linear", "train_length": TRAIN, "seq_len": 1024}, 1024),
    ({"method": "ntk", "factor": 4.0}, 512),
    ({"method": "ntk", "train_length": TRAIN, "seq_len": 700}, 700),
    ({"method": "dynamic", "train_length": TRAIN}, 900),
    ({"method": "dynamic", "train_length": TRAIN, "factor": 2.0}, 900),
    ({"method": "dynamic", "train_length": TRAIN, "factor": 2.0}, 100),
    ({"method": "yarn", "train_length": TRAIN, "factor": 4.0}, 512),
    ({"method": "yarn", "train_length": TRAIN, "seq_len": 2048}, 2048),
    ({"method": "yarn", "train_length": TRAIN, "factor": 8.0, **YARN}, 512),
    ({"method": "yarn", "train_length": TRAIN, "factor": 8.0, "attention_factor": 1.3}, 512),
    ({"method": "yarn", "train_length": TRAIN, "factor": 8, "mscale": 1.0, "mscale_all_dim": 2}, 9),
    ({"method": "ntk-by-parts", "train_length": TRAIN, "factor": 4.0, "beta_fast": 20.0}, 512),
    ({"method": "llama3", "train_length": TRAIN, "factor": 8.0}, 512),
    ({"method": "llama3", "train_length": TRAIN, "factor": 8.0, "high_freq_factor": 3.0}, 512),
    ({"method": "longrope", "train_length": TRAIN, "factor": 4.0, **LISTS}, 512),
    ({"method": "longrope", "train_length": TRAIN, "attention_factor": 1.2, **LISTS}, 100),
    ({"method": "longrope", "train_length": TRAIN, "seq_len": 1024, **LISTS}, 1024),
    ({"method": "proportional", "partial_rotary_factor": 0.4}, 512),
    ({"method": "proportional", "partial_rotary_factor": 0.0, "factor": 2.0}, 512),
]


def theirs(config: TransformerConfig, written: dict, length: int) -> tuple[torch.Tensor, float]:
    """The frequencies that transformers computes from a config.json."""
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS as functions
    from transformers.models.glm.modeling_glm import GlmRotaryEmbedding

    raw = LlamaConfig(
        hidden_size=config.d_model,
        num_attention_heads=config.n_heads,
        max_position_embeddings=max_positions(config, TRAIN),
        rope_parameters=dict(written),
    )
    default = GlmRotaryEmbedding.compute_default_rope_parameters  # which knows the rotated part
    compute = functions.get(written["rope_type"], default)
    return compute(raw, seq_len=length)


def config_of(scaling: dict[str, Any], **changed: Any) -> TransformerConfig:
    """A model with this scaling; heads of twice PAIRS."""
    own = {k: v for k, v in scaling.items() if k not in ("method", "train_length", "factor")}
    own.pop("seq_len", None)
    built = ScalingConfig(
        scaling["method"], scaling.get("factor"), scaling.get("train_length"), own
    )
    if scaling["method"] in ("linear", "ntk", "yarn") and built.factor is None:
        built = ScalingConfig()  # a model cannot be built so; a length can be evaluated so
    values = {"d_model": 2 * 2 * PAIRS, "n_heads": 2, "theta": 5000.0, "scaling": built}
    return TransformerConfig(**{**values, **changed})


@pytest.mark.parametrize(("scaling", "length"), CASES)
def test_transformers_computes_the_same(scaling: dict[str, Any], length: int) -> None:
    config = config_of(scaling)
    written = rope_parameters(config, scaling)
    assert written is not None
    inv_freq, attention_factor = theirs(config, written, length)
    asked = {"seq_len": length, **scaling}
    ours, our_factor = rope_frequencies(config.rotary_dim, config.theta, **asked)
    torch.testing.assert_close(inv_freq.double(), ours, rtol=2e-6, atol=1e-12)
    assert attention_factor == pytest.approx(our_factor)


@pytest.mark.parametrize("method", ["none", "linear", "yarn", "llama3", "dynamic"])
@pytest.mark.parametrize("fraction", [0.25, 0.5])
def test_of_a_rotated_part(method: str, fraction: float) -> None:
    lengths = {"none": {}, "linear": {"factor": 2.0}, "dynamic": {"train_length": TRAIN}}
    both = {"factor": 2.0, "train_length": TRAIN}
    scaling = {"method": method, **lengths.get(method, both)}
    config = config_of(scaling, fraction=fraction)
    written = rope_parameters(config)
    assert written is not None
    inv_freq, _ = theirs(config, written, 700)
    ours, _ = rope_frequencies(config.rotary_dim, config.theta, seq_len=700, **scaling)
    torch.testing.assert_close(inv_freq.double(), ours, rtol=2e-6, atol=1e-12)


@given(head=st.integers(1, 128), rotated=st.integers(1, 128))
@settings(deadline=None)
def test_the_share_of_a_head_is_read_as_its_width(head: int, rotated: int) -> None:
    """transformers cuts head_dim x share down to an integer."""
    head, rotated = 2 * head, 2 * min(head, rotated)
    config = TransformerConfig(d_model=64, n_heads=1, head_dim=head, fraction=rotated / head)
    written = rope_parameters(config)
    assert written is not None
    assert int(head * written.get("partial_rotary_factor", 1.0)) == rotated


@pytest.mark.parametrize(
    ("scaling", "changed"),
    [
        ({"method": "none"}, {"position": "alibi"}),
        ({"method": "proportional", "partial_rotary_factor": 0.5}, {"fraction": 0.5}),
        # Its temperature follows the length here, and no length there.
        ({"method": "longrope", "train_length": TRAIN, **LISTS}, {}),
    ],
)
def test_what_transformers_has_no_word_for(scaling: dict, changed: dict) -> None:
    config = config_of({"method": "none"}, **changed)
    assert rope_parameters(config, scaling) is None


def test_the_length_that_the_file_says() -> None:
    said = [
        max_positions(config_of(scaling), TRAIN)
        for scaling in (
            {"method": "none"},
            {"method": "linear", "factor": 3.0},
            {"method": "yarn", "factor": 4.0, "train_length": TRAIN},
            {"method": "yarn", "factor": 2.0, "train_length": 64},
            {"method": "dynamic", "train_length": 64},
        )
    ]
    assert said == [256, 256, 1024, 256, 64]
