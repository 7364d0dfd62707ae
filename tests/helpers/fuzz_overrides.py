"""Random overrides of the commands: real keys and values, mutated."""

import random
import shlex
import string
from functools import cache
from pathlib import Path
from typing import Any

from bad_input import RUN
from cli.compose import CONFIGS, composed, flatten, group_options, plain
from fuzz import FEW, Trial, Workshop, fault_of, weights

GIVEN = {
    "train.py": (*RUN, "callbacks=default", "callbacks.samples.max_new_tokens=4", "run_dir=new"),
    "evaluate.py": ("checkpoint=trained", *FEW, "output_dir=new"),
    "generate.py": ("checkpoint=trained", "max_new_tokens=4"),
    "benchmark.py": (
        *("parts=[length]", "lengths=[16]", "peers=[copy,pytorch]", "rounds=2"),
        "output_dir=new",
    ),
    "export.py": ("checkpoint=trained", "output_dir=new"),
}
NASTY = (
    *("null", "nan", "-inf", "inf", "1e400", "0", "-1", "1", "2", "3", "0.5", "-0.0", "1e-320"),
    *("true", "false", "[]", "{}", "[1]", "{a:1}", "[null]", "[[1]]", "''", "' '", "x", "auto"),
    *("9" * 30, "4294967296", "1099511627777", "1000000", "0x10", "1_0", "+5", "é", "none", "."),
    *("../x", "/dev/null", "/etc/passwd", "text.txt", "a/b", "${seed}", "${nope}", "???", "a b"),
    *("1,2", "choice(1,2)", "[1,", "(", "a=b", "@", "\\", '"', "null,null", "%s", "-5", "1e3"),
)
# More of these is more work, which may take longer than a trial has.
WORK = (
    *("trainer.", "max_new_tokens", "trials", "rounds", "passages", "lengths", "n_layers"),
    *("seq_len", "batch_size", "d_model", "calls", "methods", "measures", "experiment", "model="),
    *("data=", "step_", "parts", "cells", "data.corpus", "rope=triton", "backend", "compile"),
)
# The values of these are in the weights after two steps, whatever they are.
IN_WEIGHTS = (
    *("seed", "model.n_layers", "model.d_model", "model.n_heads", "model.dropout", "rope.theta"),
    *("rope.interleaved", "rope.fraction", "optimizer.lr", "optimizer.beta2", "data.seq_len"),
    *("data.batch_size", "data.tokenizer", "position", "trainer.accumulate_grad_batches"),
)


def override_trial(shop: Workshop, seed: int, number: int) -> Trial:
    """Run one of the commands under overrides that nobody would type on purpose."""
    source = random.Random(f"{seed} overrides {number}")
    script = source.choices(list(GIVEN), weights=(4, 2, 2, 2, 1))[0]
    typed = [_override(script, source) for _ in range(source.choice((1, 1, 1, 2)))]
    return tried(shop, script, typed, number)


def tried(shop: Workshop, script: str, typed: list[str], number: int) -> Trial:
    """The trial of these overrides."""
    done = shop.run(script, *GIVEN[script], *typed)
    written = shop.written()
    fault = fault_of(done, written, patient=any(w in word for word in typed for w in WORK))
    if fault is None and done.status == 0:
        fault = _left(script, written) or _without_effect(script, typed, shop)
    shop.clean()
    return Trial(number, f"{script} {shlex.join(typed)}", done, fault)


def _override(script: str, source: random.Random) -> str:
    keys, values = known(script)
    key = source.choice(list(keys))
    if source.random() < 0.12:
        key = source.choice(("+", "++", "~", "")) + _mutated(key, source)
    kind = source.random()
    if kind < 0.5:
        value = _plausible(key, keys.get(key, "null"), source)
    elif kind < 0.75:
        value = source.choice(NASTY)
    elif kind < 0.85:
        value = source.choice(values)
    else:
        value = _mutated(keys.get(key) or source.choice(values), source)
    return f"{key}={value}"


def _plausible(key: str, value: str, source: random.Random) -> str:
    """Another value of the same kind, which may well be right."""
    if (CONFIGS / key).is_dir():
        return source.choice([*group_options(key), value])
    if value in ("true", "false", "null"):
        return source.choice(("true", "false", "null", "1", "2", "4", "auto", "new"))
    if value.isdigit():
        return str(source.choice((int(value) + 1, int(value) * 2, int(value) // 2, 1, 2, 8)))
    try:
        number = float(value)
    except ValueError:
        return value
    return str(source.choice((number * 2, number / 3, number + 0.1, 1 - number)))


@cache
def known(script: str) -> tuple[dict[str, str], list[str]]:
    """The keys of a command with their values, groups too, and all values and options."""
    name = Path(script).stem
    flat = flatten(plain(composed(name)))
    keys = {key: _shown(value) for key, value in flat.items() if not isinstance(value, dict)}
    choices = composed(name, with_hydra=True).hydra.runtime.choices
    groups = {g: str(option) for g, option in choices.items() if (CONFIGS / str(g)).is_dir()}
    options = [option for group in groups for option in group_options(group)]
    return keys | groups, sorted({*keys.values(), *options})


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_shown, value))}]"
    return {None: "null", True: "true", False: "false"}.get(value, str(value))


def _mutated(text: str, source: random.Random) -> str:
    """A slip of the keyboard, or another number."""
    try:
        number = float(text)
    except ValueError:
        at = source.randrange(len(text) + 1)
        extra = source.choice(string.ascii_lowercase + string.digits + ".,-_[]{}=:$@ ")
        return source.choice(
            (text[:at] + extra + text[at:], text[:at] + text[at + 1 :], text[::-1])
        )
    other = source.choice((-number, number * 2, number + 1, number / 3, number * 1e6))
    return str(int(other)) if text.isdigit() and source.random() < 0.7 else str(other)


def _left(script: str, written: list[str]) -> str | None:
    """A run that ended well is whole."""
    if script == "train.py" and not any(path.endswith("results.json") for path in written):
        return "status 0 without results.json"
    return None


@cache
def _plain_weights(shop: Workshop) -> str:
    """Of the run without overrides."""
    done = shop.run("train.py", *GIVEN["train.py"])
    assert done.status == 0, done
    found = weights(shop.home / "new/checkpoints/last.ckpt")
    shop.clean()
    return found


def check_given(shop: Workshop) -> None:
    """Without an override of a trial's own, all is accepted: else nothing would be tried."""
    for script, words in GIVEN.items():
        done = shop.run(script, *words)
        assert done.status == 0, (script, done)
        shop.clean()


def _without_effect(script: str, typed: list[str], shop: Workshop) -> str | None:
    """A value other than the one that was given, and the same weights."""
    last = shop.home / "new/checkpoints/last.ckpt"
    if script != "train.py" or len(typed) > 1 or not last.exists():
        return None
    key, _, value = typed[0].partition("=")
    if key not in IN_WEIGHTS:
        return None
    given = dict(word.partition("=")[::2] for word in GIVEN[script])
    was = given.get(key, known(script)[0][key])
    found = weights(last)
    shop.clean()
    if _same(was, value) or found != _plain_weights(shop):
        return None
    return f"{typed[0]} trains the same weights as {key}={was}"


def _same(one: str, two: str) -> bool:
    try:
        return float(one) == float(two)
    except ValueError:
        return one == two.strip("'\" ")
