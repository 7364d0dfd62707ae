"""The user's overrides: parsed once, asked by key."""

import pytest

from cli.compose import check_overrides
from cli.errors import UserError
from cli.overrides import Overrides, split_arguments, values_of


def test_what_was_typed_is_asked_by_key() -> None:
    lines, flags = split_arguments(
        ["model.n_heads=3", "--cfg", "job", "run_dir=my runs/a, b", "+callbacks.x.y=1", "-m"]
    )
    assert flags == ["--cfg", "job", "-m"]
    overrides = Overrides(lines)
    assert list(overrides.typed) == ["model.n_heads", "run_dir", "callbacks.x.y"]
    assert overrides.typed["run_dir"] == "run_dir=my runs/a, b"  # without our quotes
    assert overrides.lines[1] == "run_dir='my runs/a, b'"
    assert overrides.of("model") == ["model.n_heads=3"]
    assert overrides.of("callbacks", "run_dir") == ["run_dir=my runs/a, b", "+callbacks.x.y=1"]
    assert overrides.of("model.n", "mode") == []


def test_a_plus_before_a_key_of_lightnings_is_as_good_as_none() -> None:
    lines, _ = split_arguments(["+trainer.max_time=00:00:01:00"])
    assert lines == ["++trainer.max_time=00:00:01:00"]


def test_the_last_word_counts() -> None:
    assert Overrides(["seed=1", "seed=2"]).typed == {"seed": "seed=2"}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("To be, or [not] {to} = be", "To be, or [not] {to} = be"),
        ("a'b\\", "a'b\\"),
        ("${y}", "\\${y}"),  # which OmegaConf reads as ${y}
        ("'quoted'", "quoted"),
        ('"quoted"', "quoted"),
        ("null", None),
    ],
)
def test_verbatim_keys_are_taken_as_they_are(typed: str, meant: str | None) -> None:
    (line,), _ = split_arguments([f"prompt={typed}"])
    assert values_of(Overrides([line]).parsed[0]) == [meant]


@pytest.mark.parametrize("path", ["my models/llama, 2/", "a=b (1).json", "x/[1]/tokenizer.json"])
def test_a_tokenizers_path_is_verbatim_too(path: str) -> None:
    (line,), _ = split_arguments([f"data.tokenizer={path}"])
    overrides = Overrides([line])
    assert values_of(overrides.parsed[0]) == [path]
    assert overrides.of("data.tokenizer") == [f"data.tokenizer={path}"]


@pytest.mark.parametrize("key", ["prompt_file", "prompts", "output"])
def test_files_of_generate_are_verbatim_too(key: str) -> None:
    (line,), _ = split_arguments([f"{key}=my texts, (1).jsonl"])
    assert values_of(Overrides([line]).parsed[0]) == ["my texts, (1).jsonl"]


def test_names_of_tokenizers_are_swept() -> None:
    (line,), _ = split_arguments(["data.tokenizer=byte,char"])
    assert values_of(Overrides([line]).parsed[0]) == ["byte", "char"]


def test_a_sweep_has_several_values() -> None:
    assert values_of(Overrides(["rope=pytorch,triton"]).parsed[0]) == ["pytorch", "triton"]


def test_integers_have_64_bits() -> None:
    with pytest.raises(UserError, match=r"seed=.* beyond 64 bits"):
        Overrides([f"seed={2**63}"])
    assert Overrides([f"seed={2**63 - 1}", "x=[1.5e300,true]"]).lines


@pytest.mark.parametrize("line", ["hydra.run.dir=x", "hydra.verbose=true", "+callbacks=none"])
def test_what_would_have_no_effect_is_refused(line: str) -> None:
    with pytest.raises(UserError, match=r"no effect here|write callbacks="):
        check_overrides(Overrides([line]), [], "train")


@pytest.mark.parametrize("line", ["model.n_heads", "foo=("])
def test_what_is_no_override_is_refused(line: str) -> None:
    with pytest.raises(UserError, match=r"must be key=value|quote a value"):
        Overrides([line])


@pytest.mark.parametrize("line", ["scaling=glob(*)", "+trainer.max_time=00:00:01:00"])
def test_what_hydra_understands_is_left_to_it(line: str) -> None:
    check_overrides(Overrides([line]), ["-m"], "train")


@pytest.mark.parametrize(
    "line", ["++foo=3", "++seed=3", "+seed=3", "data@foo=text", "phases.x.y=1"]
)
def test_what_hydra_would_take_in_silence_is_refused(line: str) -> None:
    with pytest.raises(UserError, match=r"cannot be (added|chosen)|another key"):
        check_overrides(Overrides([line]), [], "train")
