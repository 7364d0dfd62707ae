"""A model written as Hugging Face's: transformers' logits are ours, below and past its length."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import extras  # noqa: F401 - random positions
from commands import some
from exported import LENGTH, export, loaded, logits, random, small
from hf import load
from hf.holding import hold
from model import ScalingConfig, generate

SHORT_LONG = {"short_factor": [1.0] * 4, "long_factor": [1.0, 1.5, 2.0, 3.0]}
NANO: dict[str, Any] = {"n_kv_heads": 1}
MINI = {"qk_norm": True, "dropout": 0.2, "n_kv_heads": None}
GPT2 = {"mlp": "relu2", "n_kv_heads": None}
MIXED = {"window": 5, "pattern": ["window", "full"]}
NEOX = {"norm": "layer", "mlp": "gelu", "n_kv_heads": None}
# The settings of a model, and the family that it becomes.
CASES: list[tuple[dict[str, Any], str]] = [
    (NANO, "llama"),
    (MINI, "qwen3"),
    (GPT2, "arcee"),
    ({**GPT2, "qk_norm": True}, "apertus"),
    ({"position": "nope"}, "smollm3"),
    ({"position": "nope", **MINI}, "qwen3"),
    ({"position": "nope", **GPT2}, "arcee"),
    ({"window": 5, "pattern": ["window", "full-nope"]}, "smollm3"),
    ({"fraction": 0.5}, "phi3"),
    ({"interleaved": False}, "llama"),
    ({"tied_head": False, "mlp": "geglu"}, "llama"),
    ({"window": 5}, "mistral"),
    ({**MIXED}, "qwen2"),
    ({**MIXED, "qk_norm": True}, "qwen3"),
    ({"n_heads": 3, "n_kv_heads": 1, "head_dim": 6}, "mistral"),
    ({"fraction": 0.5, "window": 5, "interleaved": False}, "phi3"),
    ({"mlp": "gelu", "theta": 500.0}, "arcee"),
    ({"scaling": ScalingConfig("linear", 4.0)}, "llama"),
    ({"scaling": ScalingConfig("ntk", 4.0)}, "llama"),
    ({"scaling": ScalingConfig("dynamic", None, LENGTH)}, "llama"),
    ({"scaling": ScalingConfig("ntk-by-parts", 4.0, LENGTH)}, "llama"),
    ({"scaling": ScalingConfig("yarn", 4.0, LENGTH, {"beta_fast": 16.0})}, "llama"),
    ({"scaling": ScalingConfig("llama3", 4.0, LENGTH)}, "llama"),
    ({"scaling": ScalingConfig("longrope", 4.0, LENGTH, SHORT_LONG)}, "llama"),
    (
        {"scaling": ScalingConfig("proportional", None, None, {"partial_rotary_factor": 0.5})},
        "llama",
    ),
    ({"scaling": ScalingConfig("yarn", 4.0, LENGTH), **MINI}, "qwen3"),
    ({"random_positions": 64}, "llama"),  # in training alone
    ({"window": 5, "pattern": ["window", "full-nope"], "crossbatch": 2}, "smollm3"),
    ({"qkv_bias": True}, "llama"),  # with zeros as the bias of its output
    ({"fraction": 0.5, "scaling": ScalingConfig("yarn", 4.0, LENGTH)}, "glm"),
    ({"norm": "layer", "mlp": "gelu-tanh", "n_kv_heads": None}, "gpt_neox"),
    ({"position": "learned", "train_length": 48, **NEOX, "tied_head": False}, "gpt2"),
    ({"position": "alibi", "train_length": 48, **NEOX, "mlp_hidden": 128}, "mpt"),
]


@pytest.mark.parametrize("case", some(CASES, default=16))
def test_logits_are_equal(case: tuple[dict[str, Any], str], tmp_path: Path) -> None:
    settings, family = case
    model = random(small(**settings))
    held = export(tmp_path / "out", model)
    assert held.raw["model_type"] == family
    theirs, ours = loaded(tmp_path / "out"), load(tmp_path / "out", torch.device("cpu"))
    for length in (LENGTH, 3 * LENGTH):
        tokens = torch.randint(0, 256, (2, length))
        expected = logits(model, tokens)
        torch.testing.assert_close(logits(theirs, tokens), expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(logits(ours, tokens), expected, atol=1e-4, rtol=0)


def test_greedy_text_is_equal(tmp_path: Path) -> None:
    model = random(small())
    export(tmp_path / "out", model)
    prompt = torch.tensor([[10, 20, 30]])
    ours = list(generate(model, prompt, max_new_tokens=3 * LENGTH, temperature=0))
    found = loaded(tmp_path / "out").generate(
        prompt, max_new_tokens=3 * LENGTH, do_sample=False, eos_token_id=None
    )
    assert found[0, 3:].tolist() == ours and len(set(ours)) > 1


@pytest.mark.parametrize("family", ["mistral", "qwen2", "smollm3", "phi3"])
def test_a_family_by_name(family: str, tmp_path: Path) -> None:
    """qwen2 has biases that the model has not."""
    model = random(small())
    assert export(tmp_path / "out", model, family=family).raw["model_type"] == family
    tokens = torch.randint(0, 256, (1, 40))
    theirs = logits(loaded(tmp_path / "out"), tokens)
    torch.testing.assert_close(theirs, logits(model, tokens), atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_in_16_bits(dtype: str, tmp_path: Path) -> None:
    model = random(small())
    export(tmp_path / "out", model, dtype=dtype)
    theirs = loaded(tmp_path / "out")
    assert theirs.dtype is getattr(torch, dtype)
    tokens = torch.randint(0, 256, (1, 20))
    assert (logits(theirs, tokens).float() - logits(model, tokens)).abs().max() < 0.5


def test_a_large_one_in_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hf.weights_out.MAX_SHARD_SIZE", "20KB")
    model = random(small())
    export(tmp_path / "out", model)
    assert len(list((tmp_path / "out").glob("model-*.safetensors"))) > 2
    tokens = torch.randint(0, 256, (1, 20))
    theirs = logits(loaded(tmp_path / "out"), tokens)
    torch.testing.assert_close(theirs, logits(model, tokens), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ssmax": True}, "no family of Hugging Face's has model.ssmax=true"),
        ({"position": "sinusoidal"}, "no family of Hugging Face's has position=sinusoidal"),
        (
            {"position": "learned"},
            "llama has no position=learned; gpt2 has no model.mlp=swiglu, model.norm=rms, ",
        ),
        ({"position": "alibi", "mlp": "gelu"}, "mpt has no model.norm=rms, "),
        (
            {"mlp": "relu2", "window": 5},
            "mistral has no model.mlp=relu2; arcee has no model.window=5",
        ),
        (
            {"fraction": 0.5, "qk_norm": True},
            "qwen3 has no rope.fraction=0.5; phi3 has no model.qk_norm=true",
        ),
        (
            {"scaling": ScalingConfig("longrope", None, LENGTH, SHORT_LONG)},
            "no family of Hugging Face's has scaling=longrope",
        ),
        (
            {"scaling": ScalingConfig("linear", 2.0), "fraction": 0.5, "window": 5},
            "mistral has no rope.fraction=0.5; glm has no model.window=5",
        ),
    ],
)
def test_what_no_family_holds(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as refusal:
        hold(small(**settings), None, "checkpoint=x")
    assert str(refusal.value).startswith("checkpoint=x: ") and said in str(refusal.value)


def test_what_the_named_one_does_not_hold() -> None:
    config = replace(small(), qk_norm=True, mlp="relu2")
    with pytest.raises(ValueError, match=r"^family=llama: has no model.mlp=relu2, model.qk_norm="):
        hold(config, "llama", "checkpoint=x")


def test_backends_and_training_change_nothing() -> None:
    """Settings that no computed logit depends on."""
    other = {"backend": "triton", "fused_projection": True, "dropout": 0.5, "crossbatch": None}
    one, two = (hold(small(**s), None, "x").raw for s in ({}, other))
    assert one == two
