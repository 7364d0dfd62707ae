"""A checkpoint whose config and weights are not of one model is refused before memory is taken."""

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import checkpoints
from cli.trained import load_trained
from commands import command_here

CPU = torch.device("cpu")


def refusal(path: Path) -> str:
    """What is said of a checkpoint, each line of which begins with the key."""
    with pytest.raises(ValueError) as error:
        load_trained(str(path), CPU)
    lines = str(error.value).splitlines()
    assert all(line.startswith(f"checkpoint={path}: ") for line in lines), lines
    return str(error.value)


def test_a_whole_one_is_loaded(tmp_path: Path) -> None:
    trained = load_trained(str(checkpoints.write(tmp_path / "x.ckpt")), CPU)
    assert trained.step == 3 and trained.model.config.d_model == 16


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"model__d_model": 10**6}, "in its config, rope.fraction=1.0: must make"),
        ({"model__d_model": 2**20, "model__n_heads": 2**11}, "embedding.weight: must be a tensor"),
        ({"model__n_layers": 10**4}, "its weights are of 1 layers, not 10000"),
        ({"model__n_layers": 10**6}, "in its config, model.n_layers=1000000: must be an integer"),
        ({"model__mlp_hidden": 2**20}, "blocks.0.mlp.up.weight: must be a tensor of shape"),
        ({"model__head_dim": 2**20, "rope__fraction": 2**-19}, "attention.qkv.weight: must be"),
        ({"position": "learned", "data__seq_len": 2**40}, "position_embedding.weight: is missing"),
        ({"model__qk_norm": True}, "is missing"),
        ({"model__tied_head": False, "model__n_heads": "2"}, "model.n_heads=2: must be an integer"),
        ({"model": [1]}, "model=[1]: must be a group"),
        ({"rope": "triton"}, "rope=triton: must be a group"),
        ({"scaling__options": [5]}, "scaling.options=[5]: must be a dictionary"),
        ({"model__far_heads": 3}, "in its config, model.far_heads=3: mixed layers were removed"),
    ],
    ids=str,
)
def test_a_config_of_another_model(changed: dict[str, Any], reason: str, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    changed = {f"ropewalk__config__{key}": value for key, value in changed.items()}
    assert reason in refusal(checkpoints.write(tmp_path / "x.ckpt", **changed))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KB


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"vocab_size": 2**24}, "state_dict.embedding.weight: must be"),
        ({"vocab_size": 255}, "state_dict.embedding.weight: must be"),
        ({"tokenizer__name": "words"}, "its tokenizer cannot be made (data.tokenizer=words: must"),
        ({"tokenizer__name": "char"}, "its tokenizer cannot be made ('characters')"),
        ({"tokenizer": {"name": "char", "characters": "ab"}}, "its tokenizer has 2 tokens"),
    ],
    ids=str,
)
def test_a_vocabulary_of_another_model(
    changed: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    changed = {f"ropewalk__{key}": value for key, value in changed.items()}
    assert reason in refusal(checkpoints.write(tmp_path / "x.ckpt", **changed))


def test_weights_that_are_too_many_or_too_few(tmp_path: Path) -> None:
    weights = checkpoints.contents()["state_dict"]
    more = weights | {"net.blocks.0.more": torch.ones(2)}
    assert "state_dict.blocks.0.more: the model of its config has no such" in refusal(
        checkpoints.write(tmp_path / "x.ckpt", state_dict=more)
    )
    del weights["net.norm.weight"]
    assert "state_dict.norm.weight: is missing" in refusal(
        checkpoints.write(tmp_path / "x.ckpt", state_dict=weights)
    )


def leaves(node: dict[str, Any], above: str = "ropewalk__config") -> Iterator[str]:
    """Every key below `node`, as `checkpoints.contents` takes it."""
    for key, value in node.items():
        yield f"{above}__{key}"
        if isinstance(value, dict):
            yield from leaves(value, f"{above}__{key}")


VALUES = ("text", [1], {"a": {"b": 1}}, 1e400, -1, True, 2**60, ["window"], "${oc.env:HOME}", "")


FEW = ("model__n_layers", "scaling__options", "data__seq_len")


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(key, marks=() if key.endswith(FEW) else pytest.mark.slow)
        for key in leaves(checkpoints.CONFIG)
    ],
)
def test_a_retyped_value_is_refused_with_its_key_or_changes_nothing(
    key: str, tmp_path: Path
) -> None:
    refused = 0
    for value in (None, *VALUES):
        path = checkpoints.write(tmp_path / "x.ckpt", **{key: value})
        try:
            load_trained(str(path), CPU)
        except ValueError as error:
            refused += 1
            assert str(error).startswith(f"checkpoint={path}: ")
    assert refused >= 5


@pytest.mark.parametrize("script", ["evaluate.py", "generate.py"])
def test_the_commands_refuse_nan_and_damage(script: str, tmp_path: Path) -> None:
    weights = checkpoints.contents()["state_dict"]
    weights["net.norm.weight"][3] = float("nan")
    checkpoints.write(tmp_path / "nan.ckpt", state_dict=weights)
    (tmp_path / "cut.ckpt").write_bytes((tmp_path / "nan.ckpt").read_bytes()[:-1])
    for name, reason in (("nan", "net.norm.weight holds values that are NaN"), ("cut", "damaged")):
        done = command_here(script, f"checkpoint={name}.ckpt", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: checkpoint={name}.ckpt: ") and reason in done.stderr
