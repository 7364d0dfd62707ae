"""config.json, key by key: what it becomes, and what is refused by name."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import hf
from commands import ROOT
from folders import LLAMA, write_config
from hf.families import FAMILIES
from hf.scaling_in import COMMON, TYPES
from model import TransformerConfig
from published_configs import PUBLISHED

SIZES = {key: value for key, value in LLAMA.items() if key not in ("model_type", "architectures")}
GPT2 = {"model_type": "gpt2", "n_embd": 16, "n_head": 2, "n_layer": 2, "vocab_size": 40}


def config(folder: Path, **changed: Any) -> TransformerConfig:
    return hf.read(write_config(folder, {**LLAMA, **changed})).config


def raw_of(model_type: str) -> dict[str, Any]:
    return GPT2 if model_type == "gpt2" else {**SIZES, "model_type": model_type}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_is_read(name: str, tmp_path: Path) -> None:
    raw, expected = PUBLISHED[name]
    described = hf.read(write_config(tmp_path, raw))
    assert {key: getattr(described.config, key) for key in expected} == expected
    assert described.max_length == described.config.train_length
    assert (described.directory, described.family.model_type) == (tmp_path, raw["model_type"])


def test_the_scaling_of_llama_3_and_of_phi_3() -> None:
    llama, _ = PUBLISHED["Llama-3.1-8B"]
    scaling = FAMILIES["llama"].read_config(llama)["scaling"]
    low_and_high = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    expected = {"method": "llama3", "train_length": 8192, "factor": 8.0, **low_and_high}
    assert scaling.arguments() == expected
    phi, _ = PUBLISHED["Phi-3-mini-128k"]
    scaling = FAMILIES["phi3"].read_config(phi)["scaling"]
    assert (scaling.method, scaling.factor, scaling.train_length) == ("longrope", 32.0, 4096)


@pytest.mark.parametrize(
    ("given", "theta", "method"),
    [
        ({"rope_theta": 77.0}, 77.0, "none"),
        ({"rope_theta": None}, 10000.0, "none"),
        ({"rope_parameters": {"rope_theta": 88.0}, "rope_theta": 77.0}, 88.0, "none"),
        ({"rope_theta": 9.0, "rope_scaling": {"type": "linear", "factor": 2.0}}, 9.0, "linear"),
        ({"rope_scaling": {"type": "mrope", "rope_type": "default"}}, 10000.0, "none"),
        ({"rope_parameters": {"rope_type": "default", "factor": 1.0}}, 10000.0, "none"),
        (
            {"rope_parameters": {"full_attention": {}, "sliding_attention": {}}},
            *(10000.0, "none"),
        ),
    ],
)
def test_both_forms_of_rotary_parameters(
    given: dict[str, Any], theta: float, method: str, tmp_path: Path
) -> None:
    read = config(tmp_path, **given)
    assert (read.theta, read.local_theta, read.scaling.method) == (theta, None, method)


def test_the_thetas_of_gemma_3_in_both_forms(tmp_path: Path) -> None:
    scaling = {"rope_type": "linear", "factor": 2.0}
    current = {
        "full_attention": {**scaling, "rope_theta": 3e5},
        "sliding_attention": {"rope_type": "default", "rope_theta": 2e3},
    }
    previous = {"rope_theta": 3e5, "rope_local_base_freq": 2e3, "rope_scaling": scaling}
    both = [
        config(tmp_path, model_type="gemma3_text", **form)
        for form in ({"rope_parameters": current}, previous)
    ]
    assert both[0] == both[1]
    assert (both[0].theta, both[0].local_theta, both[0].scaling.factor) == (3e5, 2e3, 2.0)


# What is refused, with the words that say why

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model_type": "mixtral"}, "model_type=mixtral: no network here computes it; .*llama"),
    ({"model_type": "custom", "auto_map": {"AutoModel": "m.M"}}, "model_type=custom"),
    ({"model_type": ["llama"]}, "model_type="),
    ({"hidden_act": "relu"}, "hidden_act=relu: cannot be expressed here; what can is silu"),
    ({"quantization_config": {"bits": 4}}, "quantization_config=.*quantized"),
    ({"rope_interleaved": True}, "rope_interleaved=True: .*half-split"),
    ({"num_attention_heads": 0}, "num_attention_heads=0: must be an integer from 1"),
    ({"num_attention_heads": 3}, "num_attention_heads=3: must divide hidden_size=16"),
    ({"num_key_value_heads": 3}, "n_kv_heads=3: must divide"),
    ({"hidden_size": None}, "hidden_size=null"),
    ({"hidden_size": "wide"}, "hidden_size=wide"),
    ({"hidden_size": 2**30}, "d_model=1073741824"),
    ({"num_hidden_layers": 10**12}, "num_hidden_layers=1000000000000: must be an integer from"),
    ({"vocab_size": -1}, "vocab_size=-1"),
    ({"max_position_embeddings": 0}, "max_position_embeddings=0"),
    ({"rms_norm_eps": "small"}, "rms_norm_eps=small"),
    ({"attention_bias": "yes"}, "attention_bias=yes: must be true or false"),
    ({"attention_multiplier": 0.5}, "attention_multiplier=0.5: is not known"),
    ({"num_local_experts": 8}, "num_local_experts=8: is not known"),
    ({"rope_theta": -1}, "rope_theta=-1"),
    ({"rope_theta": float("nan")}, "rope_theta=nan"),
    ({"rope_scaling": [1]}, "rope_scaling=.*dictionary"),
    ({"rope_scaling": {"type": "su"}}, "rope_type=su: is not known here; .*yarn"),
    ({"rope_scaling": {"type": {}}}, "rope_type="),
    ({"rope_scaling": {"type": "linear"}}, "factor=null: rope_type=linear needs it"),
    ({"rope_scaling": {"type": "linear", "factor": 0.5}}, "scaling.factor=0.5"),
    ({"rope_scaling": {"type": "linear", "factor": "2"}}, "scaling.factor=2: must be"),
    (
        {"rope_scaling": {"type": "linear", "factor": 2, "beta_fast": 32}},
        "beta_fast=32: rope_type=linear does not use it",
    ),
    (
        {"rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [1.0] * 4}},
        "short_factor=<1 numbers>: must have one for each of the 4 pairs",
    ),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5: must be 1"),
    (
        {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}},
        "sliding_attention: scaled in another way",
    ),
    ({"rope_parameters": {"full_attention": 3}}, "rope_parameters.full_attention=3"),
    ({"model_type": "phi", "qk_layernorm": True}, "qk_layernorm=True"),
    ({"model_type": "qwen2", "use_mrope": True}, "use_mrope=True"),
    ({"model_type": "qwen3", "layer_types": ["chunked_attention"] * 2}, "layer_types="),
    ({"model_type": "qwen3", "layer_types": ["full_attention"]}, "layer_types=.*must be 2"),
    (
        {"model_type": "qwen3", "layer_types": ["sliding_attention"] * 2},
        "sliding_window=null: layer_types has sliding_attention",
    ),
    ({"model_type": "smollm3", "no_rope_layers": [1]}, "no_rope_layers=.*for each of"),
    (
        {"model_type": "mistral", "layer_types": ["full_attention", "sliding_attention"]},
        "layer_types=.*the same in every layer",
    ),
    ({"model_type": "gemma", "use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ({"model_type": "gemma3_text", "attn_logit_softcapping": 50.0}, "attn_logit_softcapping=50.0"),
    ({"model_type": "gemma3_text", "rope_parameters": {"rope_theta": 1.5}}, "rope_parameters="),
    ({"model_type": "cohere2", "sliding_window": None}, "sliding_window=null"),
    ({"model_type": "cohere2", "use_parallel_block": False}, "use_parallel_block=False"),
    ({**GPT2, "scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True"),
    ({**GPT2, "add_cross_attention": True}, "add_cross_attention=True"),
]


@pytest.mark.parametrize(("changed", "words"), REFUSED)
def test_what_cannot_be_expressed_is_refused_by_name(
    changed: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words) as error:
        config(tmp_path, **changed)
    lines = str(error.value).splitlines()
    assert len(lines) <= 2
    assert all(line.startswith(f"checkpoint={tmp_path}: in its config.json, ") for line in lines)


@pytest.mark.parametrize(
    "key",
    ["unsloth_version", "my_note", "_attn_implementation", "attention_dropout", "embd_pdrop"],
)
def test_a_note_in_config_json_is_no_matter(key: str, tmp_path: Path) -> None:
    assert config(tmp_path, **{key: "0.3"}) == config(tmp_path)


@pytest.mark.parametrize("off", [None, False, 0, [], {}])
def test_an_unknown_key_that_is_off_is_no_matter(off: object, tmp_path: Path) -> None:
    assert config(tmp_path, attention_sinks=off) == config(tmp_path)


@pytest.mark.parametrize("model_type", sorted(FAMILIES.keys() - {"gemma3", "apertus"}))
def test_an_unknown_key_that_tells_is_refused_in_every_family(
    model_type: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="residual_multiplier=2"):
        hf.read(write_config(tmp_path, {**raw_of(model_type), "residual_multiplier": 2}))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "has no config.json"),
        ("", "no JSON"),
        ("[1]", "no dictionary"),
        ("{}", "model_type=null"),
        ('{"model_type": "lla', "no JSON"),
        ("[" * 100_000, "no JSON"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_config_that_is_none(text: str | bytes | None, words: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=f"^here: .*{words}"):
        hf.read(tmp_path, where="here")
    assert not hf.is_directory(tmp_path)


def test_a_folder_is_told_by_its_config(tmp_path: Path) -> None:
    assert hf.is_directory(write_config(tmp_path, {"model_type": "anything"}))
    assert not hf.is_directory(tmp_path / "nowhere")


def test_a_config_is_read_without_torch(tmp_path: Path) -> None:
    write_config(tmp_path, LLAMA)
    code = "import sys, hf; hf.read(sys.argv[1]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True)


ODD = [None, True, False, 0, -1, 1, 2.5, 1e308, 2**70, float("nan"), "", "x", [], [1], ["x"], {}]
ODD += [{"a": 1}, {"rope_type": 3}, {"type": ["yarn"]}, {"full_attention": []}]


@pytest.mark.slow
@pytest.mark.parametrize("model_type", FAMILIES)
def test_any_value_of_any_key_is_read_or_refused(model_type: str) -> None:
    family = FAMILIES[model_type]
    raw = {**family.defaults, **raw_of(model_type)}
    raw |= dict.fromkeys(["rope_scaling", "rope_parameters", "layer_types", "text_config"])
    raw |= dict.fromkeys(["no_rope_layers", "partial_rotary_factor", "rotary_pct", "rope_theta"])
    raw |= dict.fromkeys(["n_inner", "original_max_position_embeddings", "quantization_config"])
    for key in raw:
        for odd in ODD:
            try:
                TransformerConfig(**family.read_config({**raw, key: odd}))
            except ValueError as error:
                assert str(error)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TYPES)
def test_any_value_of_any_option_of_a_scaling_is_read_or_refused(kind: str) -> None:
    options = [*dict.fromkeys(option for _, known in TYPES.values() for option in known), *COMMON]
    good = {"rope_type": kind, "factor": 2.0, "low_freq_factor": 1, "high_freq_factor": 4}
    good = {key: value for key, value in good.items() if key in (*TYPES[kind][1], "rope_type")}
    for key in [*options, "original_max_position_embeddings"]:
        for odd in ODD:
            raw = {**raw_of("llama"), "rope_parameters": {**good, key: odd}}
            try:
                TransformerConfig(**FAMILIES["llama"].read_config(raw))
            except ValueError as error:
                assert str(error)
