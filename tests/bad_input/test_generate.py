"""generate.py: what is typed wrong, by key."""

from pathlib import Path

import pytest

from bad_input import check_refused, rows
from forked import forked

TABLE = [
    ("temperature=0 top_k=5", "no effect with temperature=0", "leave it out"),
    ("temperature=0 seed=3", "no effect with temperature=0", "leave it out"),
    ("temperature=0.0 seed=0", "no effect"),
    ("top_k=1 seed=3", "no effect with top_k=1", "leave it out"),
    ("top_k=1 temperature=2", "no effect with top_k=1"),
    ("temperature=1e7", "a number from 0 to 1e+06", "try temperature=0.8"),
    ("temperature=-1", "a number from 0"),
    ("temperature=nan", "a number from 0"),
    ("temperature=inf", "a number from 0"),
    ("temperature=-inf", "a number from 0"),
    ("temperature=1e400", "a number from 0"),
    ("temperature=true", "a number from 0"),
    ("temperature=null", "a number from 0"),
    ("temperature=[1]", "a number from 0"),
    ("temperature={a:1}", "a number from 0"),
    ("temperature=hot", "a number from 0"),
    ("temperature=", "a number from 0"),
    ("top_k=0", "null or an integer of at least 1", "try top_k=40"),
    ("top_k=-5", "null or an integer"),
    ("top_k=2.0", "null or an integer"),
    ("top_k=nan", "null or an integer"),
    ("top_k=true", "null or an integer"),
    ("top_k=[5]", "null or an integer"),
    ("top_k=all", "null or an integer"),
    ("top_k=256", "none of the model's 256 tokens", "try top_k=40"),
    ("top_k=1000", "none of the model's 256 tokens", "top_k=null"),
    ("top_k=99999999999999999999", "smaller"),
    ("max_new_tokens=0", "an integer from 1 to 1000000", "try max_new_tokens=200"),
    ("max_new_tokens=-1", "an integer from 1"),
    ("max_new_tokens=1000001", "an integer from 1"),
    ("max_new_tokens=5.0", "an integer from 1"),
    ("max_new_tokens=1e3", "an integer from 1"),
    ("max_new_tokens=null", "an integer from 1"),
    ("max_new_tokens=inf", "an integer from 1"),
    ("max_new_tokens=", "an integer from 1"),
    ("max_new_tokens=many", "an integer from 1"),
    ("checkpoint=learned max_new_tokens=100", "at most 32 tokens", "try max_new_tokens=32"),
    ("checkpoint=learned prompt=0123456789012345678901234567890123456789", "40 tokens", "reads 32"),
    ("prompt=", "must be text", "try prompt=def"),
    ("prompt=null", "must be text"),
    ("seed=-1", "an integer from 0 to 4294967295", "try seed=0"),
    ("seed=4294967296", "an integer from 0"),
    ("seed=null", "an integer from 0"),
    ("seed=1.0", "an integer from 0"),
    ("seed=nan", "an integer from 0"),
    ("seed=true", "an integer from 0"),
    ("seed=[1]", "an integer from 0"),
    ("seed=", "an integer from 0"),
    ("seed=???", "an integer from 0"),
    ("seed=1,2", "seed=1,2"),
    ("seed=choice(1,2)", "seed=choice(1,2)"),
    ("seed=int(x)", "grammar", "quote"),
    ("seed={", "grammar", "quote"),
    ('"seed=\'"', "grammar", "quote"),
    ("seed=#1", "grammar", "quote"),
    ("seed.x=1", "no such key", "did you mean seed?"),
    ("'se ed=1'", "grammar"),
    ("'seed=${nope}'", "nope"),
    ("'seed=${seed}'", "interpolation"),
    ("'seed=${oc.env:HOME}'", "an integer from 0"),
    ("accelerator=gpu", "no CUDA GPU", "try accelerator=auto"),
    ("accelerator=tpu", "one of auto, cpu, gpu"),
    ("accelerator=[cpu]", "one of auto, cpu, gpu"),
    ("promt=x", "no such key", "did you mean prompt?"),
    ("output_dir=x", "no such key"),
    ("model.d_model=64", "no such key"),
    ("+length=5", "cannot be added"),
    ("~seed", "cannot be deleted"),
    ("seed@x=1", "package"),
    ("hello", "prompt="),
    ("rope=triton", "no such"),
    ("data=text", "no such"),
    ("--temperature=0.5", "temperature=0.5"),
    ("--silent", "--help"),
    ("-p", "no such flag", "--help"),
    ("hydra/job_logging=default", "hydra"),
    ("checkpoint=", "must be text", "runs/"),
    ("checkpoint=null", "must be text"),
    ("checkpoint=nowhere", "no such file"),
    ("checkpoint=[run,run]", "no such file"),
    ("checkpoint=fifo", "regular file"),
    ("checkpoint=/dev/zero", "regular file"),
    ("checkpoint=text.txt", "not a checkpoint"),
    ("checkpoint=folder", "in there"),
    ("temperature=-1 top_k=0", "temperature=-1", "top_k=0"),
    ("checkpoint=null seed=-1", "checkpoint=null", "seed=-1"),
]


@pytest.mark.parametrize("row", rows(TABLE, every=20))
def test_generate_refuses(row: tuple, home: Path) -> None:
    check_refused("generate.py", row, home, ["checkpoint=run", "max_new_tokens=3"])


def test_what_has_an_effect_is_taken(home: Path) -> None:
    """Negative control: one of the keys by itself, and a draw from all but one token."""
    given = ("checkpoint=run", "max_new_tokens=3")
    for typed in (["temperature=0"], ["seed=3"], ["top_k=1"], ["top_k=255", "seed=4"]):
        done = forked("generate.py", *given, *typed, cwd=home)
        assert (done.status, done.err) == (0, ""), done
