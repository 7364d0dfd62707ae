"""Small random models of transformers, of each family and each scaling, and ours of their folders.

All that needs transformers stands in this file: importing it takes seconds.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import hf
from foreign_models import CASES, FAMILIES, left_padded, prompts, saved
from model import Transformer, generate

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Transformer]]:
    """Of every case asked for: the model of transformers, and ours out of its folder."""
    return {}


def pair(case: str, pairs: dict[str, tuple[Any, Transformer]], folder: Path) -> tuple[Any, Any]:
    if case not in pairs:
        theirs, folder = saved(case, folder)
        pairs[case] = theirs, hf.load(folder, "cpu")
    return pairs[case]


@torch.no_grad()
def same_logits(theirs: Any, ours: Transformer) -> None:
    for tokens in prompts():
        expected = theirs(tokens).logits
        assert expected.std() > 0.05, "logits that say nothing"
        torch.testing.assert_close(ours(tokens), expected, **CLOSE)


@torch.no_grad()
def same_padded(theirs: Any, ours: Transformer) -> None:
    tokens, mask = left_padded(prompts())
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    expected = theirs(tokens, attention_mask=mask, position_ids=positions).logits
    got = ours(tokens, mask=mask)
    torch.testing.assert_close(got[mask == 1], expected[mask == 1], **CLOSE)


@torch.no_grad()
def same_greedy(theirs: Any, ours: Transformer, new: int = 50) -> None:
    """Each of our tokens, read from the cache, is the likeliest to transformers after the others.

    So its own greedy tokens are the same ones.
    """
    prompt = prompts()[1]
    tokens = torch.tensor([list(generate(ours, prompt, max_new_tokens=new, temperature=0, seed=0))])
    logits = theirs(torch.cat((prompt, tokens), dim=1)).logits
    assert tokens[0].tolist() == logits[0, prompt.shape[1] - 1 : -1].argmax(-1).tolist()


@pytest.mark.parametrize("case", FAMILIES)
def test_logits_padding_and_greedy_tokens_are_those_of_transformers(
    case: str, pairs: dict, tmp_path: Path
) -> None:
    theirs, ours = pair(case, pairs, tmp_path)
    assert not ours.training
    same_logits(theirs, ours)
    same_padded(theirs, ours)
    same_greedy(theirs, ours)


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(CASES.keys() - set(FAMILIES)))
def test_every_option_of_a_family(case: str, pairs: dict, tmp_path: Path) -> None:
    theirs, ours = pair(case, pairs, tmp_path)
    same_logits(theirs, ours)
    same_padded(theirs, ours)
    same_greedy(theirs, ours)


# Scalings

SHORT = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5]
LONG = [1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
BEFORE = {"original_max_position_embeddings": 16}
YARN = {"rope_type": "yarn", "factor": 4.0, **BEFORE}
LONGROPE = {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG, **BEFORE}
LLAMA3 = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0, **BEFORE}
SCALINGS: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "yarn": YARN,
    "yarn, factor of the lengths": {**YARN, "factor": None},
    "yarn, mscale": {**YARN, "mscale": 0.8, "mscale_all_dim": 0.3},
    "yarn, one mscale alone": {**YARN, "mscale": 0.8},
    "yarn, attention factor": {**YARN, "attention_factor": 1.4, "mscale": 1.0},
    "yarn, ramp": {**YARN, "beta_fast": 3, "beta_slow": 0.4, "truncate": False},
    "longrope": LONGROPE,
    "longrope, factor": {**LONGROPE, "factor": 8.0},
    "longrope, attention factor": {**LONGROPE, "attention_factor": 1.3},
    "llama3": {**LLAMA3, "factor": 4.0},
    "proportional": {"rope_type": "proportional", "factor": 2.0, "partial_rotary_factor": 0.5},
}


def previous(scaling: dict[str, Any]) -> dict[str, Any]:
    """A config's keys in the form that was before `rope_parameters`."""
    old = {key: value for key, value in scaling.items() if key not in ("rope_type", "rope_theta")}
    old["type"] = scaling["rope_type"]
    share = {key: old.pop(key) for key in ("partial_rotary_factor",) if key in old}
    return {"rope_theta": 500.0, "rope_scaling": old, **share}


def outside(scaling: dict[str, Any]) -> dict[str, Any]:
    """The length before scaling beside the rotary parameters, where it goes before that inside."""
    length = scaling.get("original_max_position_embeddings")
    inside = {**scaling, "rope_theta": 500.0}
    if length is None:
        return {"rope_parameters": inside}
    inside["original_max_position_embeddings"] = 2 * length
    return {"rope_parameters": inside, "original_max_position_embeddings": length}


FORMS = {
    "current": lambda scaling: {"rope_parameters": {**scaling, "rope_theta": 500.0}},
    "previous": previous,
    "outside": outside,
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A small Llama, whose config.json is changed by tests that share its weights."""
    folder = tmp_path_factory.mktemp("llama")
    return saved("llama", folder, num_hidden_layers=2)


@torch.no_grad()
@pytest.mark.parametrize(
    ("scaling", "form"),
    [
        pytest.param(scaling, form, marks=[] if form == "current" else pytest.mark.slow)
        for scaling in SCALINGS
        for form in FORMS
    ],
)
def test_every_scaling_is_that_of_transformers_within_its_length_and_past_it(
    scaling: str, form: str, llama: tuple[Any, Path]
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    plain, folder = llama
    raw = {**plain.config.to_diff_dict(), "model_type": "llama", "max_position_embeddings": 64}
    del raw["rope_parameters"]
    raw |= FORMS[form](json.loads(json.dumps(SCALINGS[scaling])))
    (folder / "config.json").write_text(json.dumps(raw, default=str))
    theirs = LlamaForCausalLM(LlamaConfig(**raw)).eval()
    theirs.load_state_dict(plain.state_dict())
    ours = hf.load(folder, "cpu")
    generator = torch.Generator().manual_seed(1)
    for length in (12, 90):  # within 16 and 64, and past both
        tokens = torch.randint(3, 97, (1, length), generator=generator)
        expected = theirs(tokens).logits
        torch.testing.assert_close(ours(tokens), expected, **CLOSE)
    if scaling != "default":
        ours.set_scaling("none")
        assert (ours(tokens) - expected).abs().max() > 0.05, "the scaling does nothing"


def scaled(case: str, scaling: dict[str, Any]) -> dict[str, Any]:
    """Rotary parameters of a family with its own theta and share, and lists of its length."""
    share = scaling.get("partial_rotary_factor", 0.5 if case in PARTIAL else 1.0)
    head_dim = CASES[case].get("head_dim", 12)
    pairs = int(head_dim * share) // 2
    lists = {key: scaling[key][:pairs] for key in ("short_factor", "long_factor") if key in scaling}
    lists = {key: (value * 2)[:pairs] for key, value in lists.items()}
    partial = {"partial_rotary_factor": share} if case in PARTIAL else {}
    return {**scaling, **lists, **partial, "rope_theta": 500.0}


PARTIAL = ("gpt_neox", "glm")
WITH_SCALINGS = [*PARTIAL, "qwen3", "smollm3", "olmo2", "gemma2", "cohere", "cohere2"]


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("case", WITH_SCALINGS)
def test_scalings_of_other_families(case: str, scaling: str, tmp_path: Path) -> None:
    rope = scaled(case, SCALINGS[scaling])
    theirs, folder = saved(case, tmp_path, rope_parameters=rope)
    ours = hf.load(folder, "cpu")
    for length in (12, 90):
        tokens = torch.arange(length)[None] % 90 + 5
        torch.testing.assert_close(ours(tokens), theirs(tokens).logits, **CLOSE)


OLD = {
    "gemma3_text": {
        "rope_theta": 3000.0,
        "rope_local_base_freq": 200.0,
        "rope_scaling": {"rope_type": "linear", "factor": 3.0},
        "sliding_window_pattern": 2,
    },
    "phi3": {
        "rope_theta": 500.0,
        "original_max_position_embeddings": 16,
        "rope_scaling": {"type": "longrope", "short_factor": SHORT, "long_factor": LONG},
    },
    "gpt_neox": {"rotary_pct": 0.5, "rotary_emb_base": 700},
    "phi": {"partial_rotary_factor": 0.5, "rope_theta": 700.0},
    "glm4": {"partial_rotary_factor": 0.25, "rope_theta": 700.0},
    "cohere2": {"rope_theta": 700.0, "sliding_window_pattern": 2},
    "qwen3": {"rope_theta": 700.0, "use_sliding_window": True, "max_window_layers": 1},
}


@torch.no_grad()
@pytest.mark.parametrize("case", OLD)
def test_configs_of_earlier_days_mean_what_transformers_makes_of_them(
    case: str, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    theirs, folder = saved(case, tmp_path)
    raw = json.loads((folder / "config.json").read_text())
    for key in ("rope_parameters", "layer_types", "_sliding_window_pattern"):
        raw.pop(key, None)
    (folder / "config.json").write_text(json.dumps({**raw, **OLD[case]}))
    theirs = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    ours = hf.load(folder, "cpu")
    for length in (12, 40):
        tokens = torch.arange(length)[None] % 90 + 5
        torch.testing.assert_close(ours(tokens), theirs(tokens).logits, **CLOSE)
