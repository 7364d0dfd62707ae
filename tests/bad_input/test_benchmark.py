"""benchmark.py: what is typed wrong, and what this machine cannot measure."""

from pathlib import Path

import pytest

from bad_input import assert_refused, check_refused, rows
from forked import forked

TABLE = [
    ("parts=null", "a list of one or more", "try parts=[grid]"),
    ("parts=[]", "a list of one or more"),
    ("parts=accuracy", "a list of one or more", "try parts=[accuracy]"),
    ("parts={a:1}", "parts"),
    ("parts=[acuracy]", "one of grid, host", "try parts=[accuracy]"),
    ("parts=[accuracy,nope]", "one of grid, host"),
    ("parts=[null]", "one of grid, host"),
    ("parts=[[accuracy]]", "one of grid, host"),
    ("parts=[5]", "one of grid, host"),
    ("parts=", "a list of one or more"),
    ("cells=[9x9x9x9x9-fp32]", "one of 4x512x8x8x64-fp32", "try cells="),
    ("cells=[nope]", "one of 4x512x8x8x64-fp32"),
    ("cells=[null]", "one of"),
    ("cells=[5]", "one of"),
    ("cells=4x512x8x8x64-fp32", "a list"),
    ("cells={a:1}", "cells"),
    ("cells=[64x1x32x8x128]", "try cells=[64x1x32x8x128-bf16]"),
    ("parts=[grid] peers=[copi]", "one of copy, ropewalk", "try peers=[copy]"),
    ("peers=copy", "a list"),
    ("peers=null", "a list"),
    ("peers=[]", "a list"),
    ("peers=[copy,{a:1}]", "one of copy"),
    ("lengths=[0]", "an integer from 1 to 1048576", "try lengths=[512]"),
    ("lengths=[1048577]", "an integer from 1"),
    ("lengths=[-1]", "an integer from 1"),
    ("lengths=[1.5]", "an integer from 1"),
    ("lengths=[nan]", "an integer from 1"),
    ("lengths=[inf,16]", "an integer from 1", "16"),
    ("lengths=[]", "a list"),
    ("lengths=5", "a list", "try lengths=[5]"),
    ("lengths=null", "a list"),
    ("rounds=0", "an integer from 1 to 10000", "try rounds=50"),
    ("rounds=-1", "an integer from 1"),
    ("rounds=1.0", "an integer from 1"),
    ("rounds=1e400", "an integer from 1"),
    ("rounds=nan", "an integer from 1"),
    ("rounds=null", "an integer from 1"),
    ("rounds=true", "an integer from 1"),
    ("rounds=[5]", "an integer from 1"),
    ("rounds=1099511627776", "an integer from 1"),
    ("host_calls=0", "an integer from 1", "try host_calls=10000"),
    ("host_calls=many", "an integer from 1"),
    ("host_calls=1099511627776", "an integer from 1"),
    ("step_batch=-1", "an integer from 1", "try step_batch=64"),
    ("step_batch=1e9", "an integer from 1"),
    ("step_repeats=0", "an integer from 1"),
    ("step_rounds=x", "an integer from 1"),
    ("step_variants=[]", "a list", "try step_variants=[nope]"),
    ("step_variants=[nopee]", "one of nope, ropewalk", "try step_variants=[nope]"),
    ("seed=-1", "an integer from 0", "try seed=0"),
    ("seed=null", "an integer from 0"),
    ("seed=4294967296", "an integer from 0"),
    ("seed=1.5", "an integer from 0"),
    ("parts=[accuracy] rounds=5", "only parts=", "leave it out"),
    ("parts=[accuracy] peers=[copy]", "only parts=grid/host/length", "leave it out"),
    ("parts=[accuracy] lengths=[5]", "only parts=length"),
    ("parts=[accuracy] cells=[4x512x8x8x64-fp32]", "only parts=grid/host"),
    ("parts=[accuracy] step_batch=5", "only parts=step"),
    ("output_dir=text.txt", "cannot be made", "take another"),
    ("output_dir=text.txt/a", "cannot be made"),
    ("output_dir=/dev/null", "cannot be made"),
    ("output_dir=/proc/x", "cannot be made"),
    ("output_dir=", "null or text", "try output_dir=my-benchmark"),
    ("output_dir=held", "holds a run"),
    ("output_dir=measured", "holds a benchmark already", "take another"),
    ("round=5", "no such key", "did you mean rounds?"),
    ("checkpoint=run", "no such key"),
    ("+parts=[accuracy]", "cannot be added", "write parts="),
    ("~parts", "cannot be deleted"),
    ("model=nano", "no such"),
    ("--parts=accuracy", "parts=accuracy"),
    ("accuracy", "key=value"),
    ("hydra.run.dir=x", "hydra"),
    ("rounds=0 seed=-1 parts=[gird]", "rounds=0", "seed=-1", "try parts=[grid]"),
]

HERE = "needs a CUDA GPU"
WITHOUT_GPU = [
    ("parts=[host]", HERE, "try parts=[grid,length,accuracy]"),
    ("parts=[step,remap]", HERE, "try parts=[grid,length,accuracy]"),
    ("host_calls=5", "only parts=host", HERE),
    ("step_batch=2", "only parts=step", HERE),
    ("parts=[grid] cells=[1x131072x32x8x128-bf16]", HERE),
    ("parts=[length] lengths=[1048576]", HERE),
    ("parts=[length] lengths=[16] peers=[liger]", "try peers=[copy,ropewalk]"),
]


@pytest.fixture(autouse=True)
def without_gpu(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (home / "measured").mkdir(exist_ok=True)
    (home / "measured/benchmark.json").write_text("{}")


@pytest.mark.parametrize("row", rows(TABLE, every=24))
def test_benchmark_refuses(row: tuple, home: Path) -> None:
    check_refused("benchmark.py", row, home)


@pytest.mark.parametrize("row", rows(WITHOUT_GPU, every=3))
def test_what_needs_a_gpu_is_refused_where_nothing_else_was_asked_for(
    row: tuple, home: Path
) -> None:
    check_refused("benchmark.py", row, home)


@pytest.mark.slow
def test_what_can_be_measured_is(home: Path) -> None:
    """Negative control: a part that needs a GPU beside one that does not is left out by name."""
    few = ("parts=[host,length]", "lengths=[16,1048576]", "peers=[copy,liger]", "rounds=1")
    done = forked("benchmark.py", *few, "output_dir=out", cwd=home)
    assert done.status == 0 and "not measured" in done.out and HERE in done.out, done
    assert_refused(forked("benchmark.py", *few, "output_dir=out", cwd=home), ["out", "another"])
