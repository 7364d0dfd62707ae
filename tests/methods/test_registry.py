"""Position maps as methods of extrapolation: names, rules of thumb, and what is measured."""

import pytest
import torch

from evaluation import Method, check_possible, parse_method
from evaluation.measures.loss import same_target_nll
from evaluation.passages import choose_passages
from methods.apply import applied
from methods.bend import BentCore, bend
from methods.maps import (
    DualChunk,
    LeakyReRope,
    MeanReRope,
    ReRope,
    SelfExtend,
    Sinks,
    Window,
    attended,
)
from methods.registry import MAPS, example_of, map_of
from tiny_extrapolation import DOCUMENT, TRAIN_LENGTH, measure, tiny


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("rerope", Method(map="rerope")),
        ("rerope@128", Method(map="rerope", settings=(128,))),
        ("mean-rerope@128x255", Method(map="mean-rerope", settings=(128, 255))),
        ("leaky-rerope@128x16+logn", Method("none", None, True, "leaky-rerope", (128, 16))),
        ("self-extend@8x64", Method(map="self-extend", settings=(8, 64))),
        ("dual-chunk+logn", Method(logn=True, map="dual-chunk")),
        ("window@64", Method(map="window", settings=(64,))),
        ("sinks@4x60+logn", Method(logn=True, map="sinks", settings=(4, 60))),
    ],
)
def test_a_name_and_its_method(name, method):
    assert parse_method(name) == method and method.name == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("reropes", "did you mean rerope"),
        ("rerope@", r"methods=\[rerope@\]: .*must be WINDOW, whole numbers; try rerope@128$"),
        ("rerope@8x8", "must be WINDOW"),
        ("rerope@1.5", "must be WINDOW"),
        ("rerope@0", r"methods=\[rerope@0\]: window=0: must be an integer from 1"),
        ("mean-rerope@128", "must be WINDOWxLONGEST, whole numbers; try mean-rerope@128x255"),
        ("mean-rerope@8x7", "longest=7: must be at least window=8"),
        ("self-extend@8", "must be GROUPxWINDOW, whole numbers; try self-extend@8x64"),
        ("self-extend@0x0", "group=0: .*; window=0: "),
        ("dual-chunk@8x4", "local=4: must be below half of chunk=8"),
        ("sinks@4", "must be SINKSxWINDOW, whole numbers; try sinks@4x252"),
        ("window@0", r"methods=\[window@0\]: window=0: must be an integer from 1"),
        ("yarn+rerope", r"only logn can be added; try yarn\+logn"),
    ],
)
def test_what_is_no_method_is_refused_in_one_line(name, message):
    with pytest.raises(ValueError, match=message) as error:
        parse_method(name)
    assert "\n" not in str(error.value)


def test_each_method_says_in_a_line_what_it_does():
    for name, method in MAPS.items():
        assert parse_method(name).line.endswith(method.stated)
        line = parse_method(f"{name}@{example_of(name)}+logn").line
        assert "{" not in line and "ln(keys seen)" in line
        assert all(number in line for number in example_of(name).split("x"))


@pytest.mark.parametrize("train_length", [4, 16, 100, 512])
@pytest.mark.parametrize("name", MAPS)
def test_the_rules_stay_within_the_training_length(name, train_length):
    for multiple in (1, 2, 5, 64):
        last = multiple * train_length - 1
        position_map = map_of(name, (), context=last + 1, train_length=train_length)
        i, j = torch.tensor(last), torch.arange(last + 1)
        seen = attended(position_map, i, j)
        assert seen.any() and position_map.relative(i, j)[seen].max() <= train_length


def test_the_rules_by_hand():
    lengths = {"context": 4096, "train_length": 512}
    assert map_of("rerope", (), **lengths) == ReRope(256)
    assert map_of("mean-rerope", (), **lengths) == MeanReRope(256, 511)
    assert map_of("leaky-rerope", (), **lengths) == LeakyReRope(256, 15)
    assert map_of("self-extend", (), **lengths) == SelfExtend(19, 128)  # 3968 / 213.3
    assert map_of("dual-chunk", (), **lengths) == DualChunk(384, 64)
    assert map_of("rerope", (100,), **lengths) == ReRope(100)
    assert map_of("window", (), **lengths) == Window(512)
    assert map_of("sinks", (), **lengths) == Sinks(4, 508)
    assert map_of("sinks", (), context=8, train_length=5) == Sinks(2, 3)


@pytest.mark.parametrize("name", MAPS)
def test_a_method_is_the_model_with_that_map_and_log_n(name):
    passages = choose_passages([DOCUMENT], 128, 48)
    result = measure(tiny(), methods=["none", name, f"{name}+logn"])
    for logn in (False, True):
        model = tiny().eval()
        bend(model, map_of(name, (), context=64, train_length=TRAIN_LENGTH))
        model.set_score_scaling(TRAIN_LENGTH if logn else None)
        expected = same_target_nll(model, passages, 64, 8).mean()
        measured = result.methods[f"{name}+logn" if logn else name]["nll"][2]
        assert measured == pytest.approx(expected, rel=1e-6)
    assert len({round(values["nll"][2], 4) for values in result.methods.values()}) == 3


def test_a_map_of_its_own_holds_at_the_training_length_and_one_by_length_begins_beyond():
    names = ["none", *MAPS, "self-extend@4x4", "leaky-rerope@4x8", "rerope@16"]
    nll = {name: v["nll"][0] for name, v in measure(tiny(), methods=names).methods.items()}
    assert nll["none"] == nll["self-extend"] == nll["leaky-rerope"]
    assert nll["none"] == nll["window"] == nll["sinks"]
    taxed = ("rerope", "mean-rerope", "dual-chunk", "self-extend@4x4", "leaky-rerope@4x8")
    assert len({nll["none"], *(nll[name] for name in taxed)}) == 6
    assert nll["rerope@16"] == pytest.approx(nll["none"], rel=1e-5)  # no distance reaches 16


def test_what_follows_the_length_is_what_gives_another_map_at_another_length():
    follow = {name for name in MAPS if parse_method(name).follows_length}
    assert follow == {"leaky-rerope", "self-extend"}
    assert not parse_method("self-extend@4x4").follows_length


def test_the_model_is_as_before_also_where_a_measurement_breaks():
    model = tiny()
    with (
        pytest.raises(RuntimeError, match="broken"),
        applied(parse_method("rerope+logn"), model, context=64, train_length=TRAIN_LENGTH),
    ):
        assert model.blocks[1].attention.core.position_map == ReRope(8)
        raise RuntimeError("broken")
    for block in model.blocks:
        assert not isinstance(block.attention.core, BentCore)
        assert block.attention.score_train_length is None


def test_what_is_impossible_for_a_model_is_refused():
    with pytest.raises(ValueError, match=r"methods=\[rerope@8\]: nothing to bend: position=nope"):
        check_possible(["rerope@8"], tiny(position="nope").config, 16)
    with pytest.raises(ValueError, match=r"train_length=3: too short .* name numbers, rerope@128"):
        check_possible(["rerope"], tiny().config, 3)
    check_possible(["rerope@2", *MAPS], tiny().config, 4)
