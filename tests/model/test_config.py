"""TransformerConfig's rules, and the config files that fill it."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from kernels import BACKENDS
from model import ScalingConfig, Transformer, TransformerConfig
from model import config as model_config
from model.flops import flops_per_token
from model.scalings import SCALINGS

CONFIGS = Path(__file__).parents[2] / "configs"
MODELS, ROPES, METHODS = (
    sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))
    for group in ("model", "rope", "scaling")
)


def composed(
    model: str = "nano", rope: str = "auto", scaling: str = "none", *overrides: str
) -> dict:
    groups = [f"+model={model}", f"+rope={rope}", f"+scaling={scaling}", "+position=rope"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return OmegaConf.to_container(compose(overrides=[*groups, *overrides]))


def problems(**kwargs: object) -> list[str]:
    try:
        TransformerConfig(**kwargs)
    except ValueError as error:
        return str(error).splitlines()
    return []


# The files


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("rope", ROPES)
def test_files_hold_every_key_and_build(model, rope):
    config = composed(model, rope)
    names = {field.name for field in dataclasses.fields(TransformerConfig)}
    rope_names = {"backend", "theta", "local_theta", "interleaved", "fraction", "fused_projection"}
    assert set(config["rope"]) == rope_names
    assert set(config["model"]) == names - rope_names - {
        "vocab_size",
        "position",
        "train_length",
        "scaling",
    }
    TransformerConfig.from_config(config, vocab_size=256)


def test_the_names_of_backends_are_those_of_the_kernels():
    """They stand in model.config too, where torch is not imported."""
    assert ("auto", *BACKENDS) == model_config.BACKENDS


def test_rope_files_differ_in_the_backend_alone():
    assert set(ROPES) == {"_base", "auto", *BACKENDS}
    for name in set(ROPES) - {"_base"}:
        config = composed(rope=name)["rope"]
        assert config.pop("backend") == name
        assert config == {
            "theta": 10000.0,
            "local_theta": None,
            "interleaved": True,
            "fraction": 1.0,
            "fused_projection": False,
        }


def test_nano_is_the_dataclass_default_with_shared_keys_and_values():
    assert TransformerConfig.from_config(composed(), 256) == TransformerConfig(n_kv_heads=1)


@pytest.mark.parametrize(
    ("model", "vocab_size", "parameters"), [("mini", 65, 10.65e6), ("gpt2", 50304, 124e6)]
)
def test_sizes_of_the_presets(model, vocab_size, parameters):
    config = TransformerConfig.from_config(composed(model), vocab_size)
    with torch.device("meta"):
        count = Transformer(config).num_parameters()
    assert count == pytest.approx(parameters, rel=0.01)


def test_flops_of_the_presets():
    """nanoGPT's char-Shakespeare model costs 70.9 MFLOP a token, GPT-2 of 124M 854.7 MFLOP."""
    mini = TransformerConfig.from_config(composed("mini"), 65)
    assert flops_per_token(mini, 256) == pytest.approx(70.9e6, rel=2e-3)
    gpt2 = TransformerConfig.from_config(composed("gpt2"), 50304)
    assert flops_per_token(gpt2, 1024) == pytest.approx(854.7e6, rel=2e-3)


def test_scaling_files_are_the_methods():
    assert set(METHODS) == set(SCALINGS)


@pytest.mark.parametrize("method", METHODS)
def test_scaling_files_hold_the_options_at_their_defaults(method):
    scaling = composed(scaling=method)["scaling"]
    assert list(scaling) == ["method", "factor", "train_length", "options"]
    assert (scaling["method"], scaling["factor"], scaling["train_length"]) == (method, None, None)
    settings = {field.name: field.default for field in dataclasses.fields(SCALINGS[method])}
    defaults = {name: settings[name] for name in settings if name not in ("factor", "train_length")}
    defaults = {n: None if d is dataclasses.MISSING else d for n, d in defaults.items()}
    assert scaling["options"] == defaults


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"none"}))
def test_scaling_files_build_with_a_factor_and_a_length(method):
    lists = ["scaling.options.short_factor=[1,2]", "scaling.options.long_factor=[2,4]"]
    overrides = ["scaling.factor=4", "scaling.train_length=8", "model.head_dim=4"]
    overrides += lists if method == "longrope" else []
    config = TransformerConfig.from_config(composed("nano", "auto", method, *overrides), 10)
    assert config.scaling.arguments()["factor"] == 4
    Transformer(config)(torch.zeros(1, 3, dtype=torch.long))


@pytest.mark.parametrize("method", ["linear", "ntk", "ntk-by-parts", "yarn", "llama3"])
def test_a_scaling_that_would_do_nothing_is_refused(method):
    with pytest.raises(ValueError, match=r"scaling\.(factor|train_length)=None"):
        TransformerConfig.from_config(composed(scaling=method), 10)


# The rules


def test_every_problem_is_reported_at_once():
    found = problems(
        vocab_size=0,
        n_layers=True,
        d_model=64,
        n_heads=3,
        mlp="swigl",
        dropout=-1,
        backend="trition",
        theta=math.nan,
        interleaved="yes",
        position="robe",
        scaling=ScalingConfig("yarn", factor=0.5, options={"beta_fst": 3}),
    )
    keys = [
        "vocab_size=0",
        "model.n_layers=True",
        "model.mlp=swigl",
        "model.dropout=-1",
        "rope.backend=trition",
        "rope.theta=nan",
        "rope.interleaved=yes",
        "position=robe",
        "model.n_heads=3",
        "scaling.factor=0.5",
        "scaling.options.beta_fst=3",
    ]
    assert [line.split(":")[0] for line in found] == keys
    assert "try rope.backend=triton" in found[4]
    assert "did you mean beta_fast?" in found[-1]


def suggested(line: str) -> list[str]:
    return line.rsplit("valid: ", 1)[1].split(", ")


@pytest.mark.parametrize(
    ("kwargs", "heads"),
    [
        ({"d_model": 64}, "1 2 4 8 16 32"),
        ({"d_model": 64, "fraction": 0.5}, "1 2 4 8 16"),
        ({"d_model": 64, "fraction": 0.25, "n_kv_heads": 2}, "2 4 8"),
        ({"d_model": 60, "n_heads": 4}, "1 2 3 5 6 10 15 30"),
        ({"d_model": 1024, "n_heads": 3}, "2 4 8 16 32 64 128 256 512"),
        ({"d_model": 64, "fraction": 0.5, "position": "nope"}, "1 2 4 8 16 32"),
    ],
)
def test_suggested_n_heads_are_those_that_work(kwargs, heads):
    kwargs = {"n_heads": 3, **kwargs}
    line = problems(**kwargs)[0]
    assert line.startswith(f"model.n_heads={kwargs['n_heads']}: must divide")
    assert suggested(line) == heads.split()
    working = [n for n in range(1, kwargs["d_model"]) if not problems(**{**kwargs, "n_heads": n})]
    assert [int(n) for n in suggested(line)] == working


@pytest.mark.parametrize("kwargs", [{"d_model": 7}, {"d_model": 9, "fraction": 0.3}])
def test_where_no_n_heads_works_a_d_model_is_suggested(kwargs):
    (line,) = problems(n_heads=2, **kwargs)
    width = int(line.rsplit("model.d_model=", 1)[1])
    assert not problems(**{**kwargs, "n_heads": 2, "d_model": width})


@pytest.mark.parametrize("fraction", [1.5, 0.0, 0.013, 0.3131, -1.0])
@pytest.mark.parametrize("head_dim", [12, 32, 600])
def test_fraction_must_give_an_even_width(fraction, head_dim):
    (line,) = problems(fraction=fraction, head_dim=head_dim)
    assert line.startswith(f"rope.fraction={fraction}: must")
    for value in suggested(line) if "valid" in line else []:
        config = TransformerConfig(fraction=float(value), head_dim=head_dim)
        assert config.rotary_dim == pytest.approx(float(value) * head_dim, abs=1e-3)


def test_rotary_dim_has_a_limit():
    assert problems(d_model=1024, n_heads=1)[0].startswith("rope.fraction=1.0")
    assert not problems(d_model=1024, n_heads=1, fraction=0.5)


@pytest.mark.parametrize(
    ("kwargs", "start"),
    [
        ({"n_kv_heads": 3}, "model.n_kv_heads=3: must divide model.n_heads=4; valid: 1, 2, 4"),
        ({"head_dim": 15}, "model.head_dim=15: must be null or an even integer"),
        ({"d_model": 10**24}, "model.d_model=1000000000000000000000000: must be"),
        ({"n_layers": "3"}, "model.n_layers=3: must be an integer"),
        ({"n_layers": None}, "model.n_layers=null: must be an integer"),
        ({"dropout": 1.0}, "model.dropout=1.0"),
        ({"theta": math.inf}, "rope.theta=inf"),
        ({"mlp": ["gelu"]}, "model.mlp=[gelu]"),
        ({"scaling": ScalingConfig("linear")}, "scaling.factor=None: linear needs"),
        ({"scaling": ScalingConfig("none", factor=2.0)}, "scaling.factor=2.0: none does not"),
        ({"scaling": ScalingConfig(options=[1])}, "scaling.options=[1]: must be"),
        ({"scaling": ScalingConfig(options={"factor": 1})}, "scaling.options.factor: belongs"),
        (
            {
                "scaling": ScalingConfig(
                    "longrope", 2, 8, {"short_factor": [1], "long_factor": [1.0] * 16}
                )
            },
            "scaling.options.short_factor=",
        ),
        (
            {"scaling": ScalingConfig("linear", 2.0), "position": "nope"},
            "scaling.method=linear: position=nope",
        ),
    ],
)
def test_one_wrong_value(kwargs, start):
    found = problems(**kwargs)
    assert len(found) == 1 and found[0].startswith(start), found


def test_from_config_names_unknown_keys_beside_other_problems():
    config = {
        "model": {"d_modle": 64, "n_heads": 5},
        "rope": None,
        "scaling": {"metod": "yarn"},
        "data": {"ignored": True},
    }
    with pytest.raises(ValueError) as error:
        TransformerConfig.from_config(config, 10)
    lines = str(error.value).splitlines()
    assert lines[0] == "model.d_modle: there is no such key; did you mean model.d_model?"
    assert lines[1].startswith("rope=null")
    assert lines[2].endswith("did you mean scaling.method?")
    assert lines[3].startswith("model.n_heads=5")
    assert len(lines) == 4


@pytest.mark.parametrize("value", [1, 0, False])
def test_a_key_that_was_removed_is_read_over_where_it_is_null(value):
    old = composed()
    old["model"]["far_heads"] = None  # as in checkpoints of revision a2e66d8
    assert TransformerConfig.from_config(old, 256) == TransformerConfig.from_config(composed(), 256)
    old["model"] |= {"far_heads": value, "pattern": ["mixed"], "window": 8}
    with pytest.raises(ValueError) as error:
        TransformerConfig.from_config(old, 256)
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"model.far_heads={value}: mixed layers were removed")


def test_defaults_follow_the_widths_when_a_config_is_replaced():
    config = dataclasses.replace(TransformerConfig(), d_model=192, mlp="gelu", fraction=0.5)
    assert (config.head_width, config.kv_heads, config.mlp_width) == (48, 4, 768)
    assert config.rotary_dim == 24
