"""Arguments are seen to be words of a person's before Hydra's grammar reads them."""

import time
from pathlib import Path

import pytest

from cli.arguments import check_arguments
from cli.errors import UserError

RIGHT = [
    ["model.n_heads=3", "--cfg", "job", "-m"],
    ["--help"],
    ["--cfg=all"],
    ["-c", "hydra", "seed=1"],
    ["--quiet", "--config-dir", "my", "-m"],
    ["--config-dir=my", "-q"],
    ["~model"],  # Hydra's own, which is refused later
    [f"prompt={'word ' * 100_000}\n\t"],
    ["evaluation.lengths=[" + ",".join(["256"] * 5000) + "]"],
    ["data.path=" + "/".join(["folder"] * 100)],
]
WRONG = [
    (["--silent"], "--silent: no such flag; there is --help"),
    (["-x"], "-x: no such flag"),
    (["--"], "--: no such flag"),
    (["--config-name=nope"], "no such flag"),
    (["--config-dir"], "followed by a folder"),
    (["--config-dir="], "no such flag"),
    (["--package", "x"], "no such flag"),
    (["--cfg", "nope"], "one of job, hydra, all"),
    (["seed=1", "-c"], "followed by one of job"),
    (["=3"], "must be key=value"),
    (["lr"], "try optimizer.lr="),
    (["a\ud800b=1"], "not UTF-8"),
    (["name=a\x1bb"], r"control character '\x1b'"),
    (["run_dir=a\nb"], r"control character '\n'"),
    (["k" * 5000 + "=1"], "a key of 5000 characters"),
    (["seed=" + "9" * 5000], "fewer than 400 digits"),
    (["seed=" + "[" * 5000 + "]" * 5000], "at most 20 deep"),
    (["seed=" + "x" * 200_000], "at most 100,000 characters"),
    (["run_dir=" + "x" * 5000], "names of 255 bytes"),
    (["resume=" + "x/" * 5000], "paths of 4,000"),
    (["data.path=" + "\N{EURO SIGN}" * 100], "names of 255 bytes"),
]


@pytest.mark.parametrize("arguments", RIGHT, ids=lambda a: a[0][:20])
def test_what_is_right_passes(arguments: list[str]) -> None:
    check_arguments(arguments, "train")


@pytest.mark.parametrize(("arguments", "said"), WRONG, ids=lambda a: ascii(a[0][:20]))
def test_what_is_wrong_is_told_in_a_short_line(arguments: list[str], said: str) -> None:
    started = time.process_time()
    with pytest.raises(UserError) as refusal:
        check_arguments(arguments, "train")
    message = str(refusal.value)
    assert said in message and len(message) < 300 and message.isprintable()
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        ("evaluate", ["runs/x"], "try checkpoint=runs/x"),
        ("evaluate", ["lengths"], "try lengths=null"),
        ("generate", ["To", "be", "seed=1"], 'try prompt="To be"'),
        ("generate", ["here"], "try checkpoint=here"),
        ("train", ["here"], "try resume=here"),
        ("train", ["here/text"], "try data=text data.path=here/text"),
        ("train", ["model"], "try model=…"),
        ("benchmark", ["rounds"], "try rounds="),
    ],
)
def test_a_word_alone_is_answered_with_its_key(
    command: str, arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    Path("here/text").write_text("")
    with pytest.raises(UserError) as refusal:
        check_arguments(arguments, command)
    assert said in str(refusal.value)
