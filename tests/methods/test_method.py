"""The methods of extrapolation by name: what each parses to, does to a model, and refuses."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from cli.compose import plain
from evaluation import METHODS, Method, check_possible, measure_extrapolation, parse_method
from evaluation.measures.loss import same_target_nll
from evaluation.passages import choose_passages
from kernels import rope_phases
from methods.apply import applied
from model import ScalingConfig, rope_frequencies
from model.scalings import SCALINGS
from tiny_extrapolation import BYTES, DOCUMENT, TRAIN_LENGTH, measure, tiny

SCALED = [name for name in METHODS if name not in ("none", "longrope")]
LISTS = {"short_factor": [1.0] * 8, "long_factor": [1.0 + i for i in range(8)]}
LONGROPE = ScalingConfig("longrope", factor=2.0, train_length=TRAIN_LENGTH, options=LISTS)


def phases(model):
    attention = model.blocks[0].attention
    return attention.phases.clone(), attention.attention_factor


def under(name, model, context):
    """The phases and the attention factor of the model under a method."""
    with applied(parse_method(name), model, context=context, train_length=TRAIN_LENGTH):
        return phases(model)


def same(left, right):
    return torch.equal(left[0], right[0]) and left[1] == right[1]


# --- names -----------------------------------------------------------------------------------


def test_every_scaling_of_the_model_is_a_method():
    assert set(METHODS) == set(SCALINGS)


@pytest.mark.parametrize(
    ("name", "method", "canonical"),
    [
        ("none", Method(), "none"),
        ("yarn", Method("yarn"), "yarn"),
        ("yarn@8", Method("yarn", 8.0), "yarn@8"),
        ("yarn@8.0", Method("yarn", 8.0), "yarn@8"),
        ("ntk@2.5", Method("ntk", 2.5), "ntk@2.5"),
        ("ntk-by-parts@16", Method("ntk-by-parts", 16.0), "ntk-by-parts@16"),
        ("logn", Method(logn=True), "logn"),
        ("none+logn", Method(logn=True), "logn"),
        ("ntk@8+logn", Method("ntk", 8.0, True), "ntk@8+logn"),
        ("proportional@0.25", Method("proportional", 0.25), "proportional@0.25"),
        ("yarn@1e12+logn", Method("yarn", 1e12, True), "yarn@1e12+logn"),
    ],
)
def test_a_name_and_its_method(name, method, canonical):
    assert parse_method(name) == method
    assert method.name == canonical and parse_method(canonical) == method


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "yarm@8+logn",
            r"methods=\[yarm@8\+logn\]: .* did you mean yarn@8\+logn\? There are: none",
        ),
        ("lonrope", "did you mean longrope"),
        ("", r"methods=\[\]: no such method"),
        ("none@8", r"methods=\[none@8\]: none takes no factor; try none$"),
        ("logn@8", r"methods=\[logn@8\]: no such method; did you mean logn"),
        ("yarn@", r"what follows the @ must be a number from 1 to 1e\+12; try yarn@8"),
        ("yarn@0.5", "must be a number from 1"),
        ("yarn@nan", "must be a number from 1"),
        ("yarn@8@8", "must be a number from 1"),
        ("proportional@8", "the share of pairs that turn, from 0 to 1; try proportional@0.25"),
        ("yarn+log", r"only logn can be added; try yarn\+logn"),
        ("yarn+logn+logn", "only logn can be added"),
    ],
)
def test_what_is_no_method_is_refused(name, message):
    with pytest.raises(ValueError, match=message) as error:
        parse_method(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_the_names_go_through_hydra_as_they_are(command):
    names = ["none", "yarn@8", "ntk@2.5+logn", "logn", "ntk-by-parts"]
    key = "evaluation.methods" if command == "train" else "methods"
    configs = Path(__file__).parents[2] / "configs"
    with initialize_config_dir(str(configs), version_base="1.3"):
        config = plain(compose(command, [f"{key}=[{','.join(names)}]"]))
    assert config.get("evaluation", config)["methods"] == names


def test_each_method_says_in_a_line_what_it_does():
    lines = [parse_method(name).line for name in METHODS]
    assert len(set(lines)) == len(METHODS) and not any("\n" in line for line in lines)
    assert "context / training length" in parse_method("linear").line
    assert parse_method("linear@8").line.startswith("every frequency divided by 8")
    assert parse_method("dynamic@8").line.startswith("ntk by 8 x (context / training length - 1)")
    assert parse_method("logn").line.startswith("scores times ln(keys seen)")
    assert parse_method("yarn@8+logn").line == "; ".join(
        parse_method(name).line for name in ("yarn@8", "logn")
    )
    result = measure(tiny(), lengths=[16], methods=["yarn@8+logn", "none+logn"], passages=2)
    assert list(result.methods) == list(result.protocol["methods"]) == ["yarn@8+logn", "logn"]
    assert "{" not in " ".join(result.protocol["methods"].values()) + " ".join(lines)


# --- what they do to a model -----------------------------------------------------------------


@pytest.mark.parametrize("name", SCALED)
def test_without_a_number_the_model_is_plain_at_the_training_length_and_scaled_beyond(name):
    model = tiny()
    trained = phases(model)
    assert same(under(name, model, TRAIN_LENGTH), trained)
    assert not same(under(name, model, 4 * TRAIN_LENGTH), trained)
    assert same(phases(model), trained)


@pytest.mark.parametrize("name", sorted(set(SCALED) - {"dynamic", "proportional"}))
def test_with_a_number_every_length_has_the_same_frequencies_the_training_length_too(name):
    model = tiny()
    fixed = under(f"{name}@8", model, TRAIN_LENGTH)
    assert not same(fixed, phases(model))
    assert same(fixed, under(f"{name}@8", model, 2 * TRAIN_LENGTH))
    assert same(fixed, under(name, model, 8 * TRAIN_LENGTH))


def test_dynamic_is_ntk_at_the_lengths_own_factor_and_its_number_is_hugging_faces():
    model = tiny()
    assert same(under("dynamic", model, 64), under("ntk", model, 64))
    assert same(under("dynamic@2", model, 64), under("ntk@7", model, 64))  # 2 x 4 - 1
    assert same(under("dynamic@2", model, TRAIN_LENGTH), phases(model))


def test_proportional_lets_those_pairs_turn_that_finished_a_turn_in_training():
    model = tiny()
    rotary_dim = model.config.rotary_dim
    inv_freq, _ = rope_frequencies(rotary_dim)
    seen = inv_freq * TRAIN_LENGTH >= math.tau
    assert 0 < seen.sum() < len(seen)
    beyond, _ = under("proportional", model, 64)
    assert torch.equal(beyond != 0, seen)
    kept, _ = under("proportional@0.5", model, TRAIN_LENGTH)
    assert torch.equal(kept != 0, torch.arange(rotary_dim // 2) < rotary_dim // 4)


def test_longrope_takes_the_models_own_lists():
    model = tiny(LONGROPE)
    plain_frequencies, _ = rope_frequencies(model.config.rotary_dim)
    short, long = under("longrope", model, TRAIN_LENGTH), under("longrope", model, 64)
    assert torch.equal(short[0], tiny().blocks[0].attention.phases) and short[1] == 1.0
    assert long[1] == math.sqrt(1 + math.log(4) / math.log(TRAIN_LENGTH))
    ratio = long[0].double() / short[0].double()
    expected = 1 / torch.tensor(LISTS["long_factor"], dtype=torch.float64)
    torch.testing.assert_close(ratio, expected, rtol=1e-12, atol=0)
    fixed = under("longrope@4", model, TRAIN_LENGTH)
    assert same(fixed, long) and len(plain_frequencies) == len(fixed[0])


@pytest.mark.parametrize("name", ["yarn", "yarn@4"])
def test_a_model_trained_with_a_scaling_keeps_its_options(name):
    options = {"beta_fast": 2.0, "beta_slow": 0.5, "attention_factor": 1.25}
    model = tiny(ScalingConfig("yarn", 2.0, TRAIN_LENGTH, options))
    expected = model.config.rotary_dim, model.config.theta
    lengths = {"factor": 4.0, "train_length": TRAIN_LENGTH}
    inv_freq, factor = rope_frequencies(*expected, method="yarn", **lengths, **options)
    assert same(under(name, model, 4 * TRAIN_LENGTH), (rope_phases(inv_freq), factor))
    assert not same(under(name, tiny(), 4 * TRAIN_LENGTH), (rope_phases(inv_freq), factor))
    other, _ = rope_frequencies(*expected, method="linear", **lengths)  # whose options they are not
    assert same(under("linear", model, 4 * TRAIN_LENGTH), (rope_phases(other), 1.0))
    share = tiny(ScalingConfig("proportional", options={"partial_rotary_factor": 0.5}))
    for length in (TRAIN_LENGTH, 64):
        assert same(under("proportional", share, length), phases(share))


def test_a_fixed_factor_has_a_tax_at_the_training_length():
    methods = ["none", "yarn", "yarn@8", "linear@8"]
    nll = {name: v["nll"] for name, v in measure(tiny(), methods=methods).methods.items()}
    assert nll["none"][0] == nll["yarn"][0]
    assert len({nll["none"][0], nll["yarn@8"][0], nll["linear@8"][0]}) == 3
    assert nll["yarn"][3] == nll["yarn@8"][3]  # at 8 times the training length they are one


def test_logn_is_the_model_with_its_scores_scaled():
    passages = choose_passages([DOCUMENT], 128, 48)
    result = measure(tiny(), methods=["none", "logn", "yarn", "yarn+logn"])
    nll = {name: values["nll"] for name, values in result.methods.items()}
    assert len({losses[0] for losses in nll.values()}) == 1
    assert len({round(losses[2], 4) for losses in nll.values()}) == 4
    for name, scaling in (("logn", None), ("yarn+logn", ScalingConfig("yarn", 4.0, TRAIN_LENGTH))):
        model = tiny(scaling).eval()
        model.set_score_scaling(TRAIN_LENGTH)
        expected = same_target_nll(model, passages, 64, 8).mean()
        assert nll[name][2] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["logn", "yarn@8+logn"])
def test_the_model_is_as_before_also_where_a_measurement_breaks(name):
    model = tiny()
    trained = phases(model)
    with (
        pytest.raises(RuntimeError, match="broken"),
        applied(parse_method(name), model, context=64, train_length=TRAIN_LENGTH),
    ):
        assert model.blocks[1].attention.score_train_length == TRAIN_LENGTH
        raise RuntimeError("broken")
    assert same(phases(model), trained)
    assert all(block.attention.score_train_length is None for block in model.blocks)


# --- what is impossible for a model ----------------------------------------------------------


def test_a_model_without_rotation_takes_log_n_and_nothing_else():
    config = tiny(position="nope").config
    check_possible(["none", "logn"], config, 16)
    with pytest.raises(ValueError, match=r"^methods=\[yarn@8\]: nothing to scale: position=nope"):
        check_possible(["yarn@8"], config, 16)
    check_possible(["yarn@8", "logn"], config, 16)  # one of them can be measured
    result = measure(tiny(position="nope"), methods=["none", "logn", "yarn"])
    assert result.methods["logn"]["nll"][3] != result.methods["none"]["nll"][3]
    assert sorted(result.reasons) == ["yarn"]


def test_longrope_without_factors_is_refused():
    with pytest.raises(ValueError, match=r"methods=\[longrope@4\]: .*short_factor and long_factor"):
        check_possible(["longrope@4"], tiny().config, 16)
    check_possible(["longrope", "longrope@4"], tiny(LONGROPE).config, 16)
    assert "no factors" in measure(tiny(), methods=["longrope"]).reasons["longrope"]["16"]


def test_log_n_has_no_logarithm_of_one_to_divide_by():
    with pytest.raises(ValueError, match=r"methods=\[logn\]: train_length=1"):
        check_possible(["logn"], tiny().config, 1)
    result = measure_extrapolation(
        tiny(), [np.asarray(DOCUMENT)], BYTES, train_length=1, methods=["none", "logn"]
    )
    assert "train_length=1" in result.reasons["logn"]["8"] and "none" not in result.reasons
