"""evaluate.py: what is typed wrong, by key."""

import json
from pathlib import Path

import pytest

from bad_input import check_refused, rows
from forked import forked

TABLE = [
    ("passages=1000000", "the text holds 6 of 129", "try passages=6"),
    ("passages=nan", "integer of at least 1", "try passages=16"),
    ("passages=inf", "integer of at least 1"),
    ("passages=-1", "integer of at least 1"),
    ("passages=2.0", "integer of at least 1"),
    ("passages=null", "integer of at least 1"),
    ("passages=true", "integer of at least 1"),
    ("passages=[1]", "integer of at least 1"),
    ("passages={a:1}", "integer of at least 1"),
    ("passages=few", "integer of at least 1"),
    ("passages=", "integer of at least 1"),
    ("lengths=[nan]", "each an integer of at least 1", "try lengths=[256]"),
    ("lengths=[inf]", "each an integer of at least 1"),
    ("lengths=[1e400]", "each an integer of at least 1"),
    ("lengths=32", "a list of one or more", "try lengths=[32]"),
    ("lengths=[]", "a list of one or more"),
    ("lengths={a:1}", "list"),
    ("lengths=[32,[64]]", "each an integer"),
    ("lengths=[true]", "each an integer"),
    ("lengths=[0]", "at least 1"),
    ("lengths=[-32,64]", "at least 1", "64"),
    ("lengths=['']", "each an integer"),
    ("lengths=[100000]", "longer than the text", "try lengths=[89"),
    ("lengths=[99999999999999999999999999999]", "smaller"),
    ("methods=[longrope]", "no factors of its own", "scaling=longrope"),
    ("methods=[longrope,longrope@4]", "no factors of its own", "longrope@4"),
    ("checkpoint=learned methods=[yarn]", "position=learned has no rotation"),
    ("methods=null", "a list of one or more", "methods=[none,yarn]"),
    ("methods=none", "a list of one or more"),
    ("methods=[]", "a list of one or more"),
    ("methods=[yarm]", "no such method", "did you mean yarn?"),
    ("methods=[null]", "no such method"),
    ("methods=[[none]]", "no such method"),
    ("methods=[{a:b}]", "no such method"),
    ("methods=[7]", "no such method", "There are: none, linear"),
    ("methods=[yarn@nan]", "a number from 1", "try yarn@8"),
    ("methods=[yarn@inf]", "a number from 1"),
    ("methods=[yarn@]", "a number from 1"),
    ("methods=[yarn@0.5]", "a number from 1"),
    ("methods=[@8]", "no such method"),
    ("methods=[none@8]", "takes no factor"),
    ("methods=[yarn+]", "only logn can be added"),
    ("methods=[crop+logn]", "crop is by itself"),
    ("methods=[rerope@99999999999999999999]", "an integer from 1"),
    ("methods=[mean-rerope@1]", "WINDOWxLONGEST"),
    ("measures=null", "one of loss, passkey", "try measures=[loss]"),
    ("measures=loss", "a list of one or more"),
    ("measures=[passkeys]", "try measures=[passkey]"),
    ("measures=[{a:1}]", "one of loss"),
    ("trials=5", "only measures=", "leave it out"),
    ("measures=[loss,positions] trials=5", "only measures=", "leave it out"),
    ("measures=[copy] trials=nan", "an integer from 1", "try trials=110"),
    ("measures=[copy] trials=0", "an integer from 1"),
    ("measures=[copy] trials=1099511627776", "integer from 1 to 1000000"),
    ("measures=[attention] target_tokens=4", "only measures=", "leave it out"),
    ("target_tokens=0", "null or an integer", "try target_tokens=128"),
    ("target_tokens=1e9", "null or an integer"),
    ("target_tokens=nan", "null or an integer"),
    ("target_tokens=33", "at most the shortest", "1 to 32"),
    ("max_tokens_per_batch=0", "integer of at least 1", "try max_tokens_per_batch=4096"),
    ("max_tokens_per_batch=1.5", "integer of at least 1"),
    ("figures=jpeg", "one of png, svg, pdf", "try figures=png"),
    ("output_dir=text.txt", "cannot be made", "take another"),
    ("output_dir=text.txt/a", "cannot be made", "take another"),
    ("output_dir=/dev/null", "cannot be made"),
    ("output_dir=/proc/x", "cannot be made"),
    ("output_dir=held", "holds a run"),
    ("output_dir=", "null or text", "try output_dir=my-evaluation"),
    ("output_dir=' '", "null or text"),
    ("split=train", "one of validation, report, all"),
    ("split=all", "of the checkpoint's own text", "data=text data.path=book.txt"),
    ("data=text data.path=text.txt split=Report", "try split=report"),
    ("split=report", "keeps no text for it", "split=validation"),
    ("accelerator=gpu", "no CUDA GPU", "try accelerator=auto"),
    ("accelerator=tpu", "one of auto, cpu, gpu"),
    ("accelerator=null", "one of auto, cpu, gpu"),
    ("data=nope", "no such option", "options: books"),
    ("data=text", "data.path=null", "notes.txt"),
    ("data=text data.path=missing.txt", "no such file", "exists"),
    ("data=text data.path=empty.txt", "empty"),
    ("data=text data.path=latin.txt", "not UTF-8", "iconv"),
    ("data=text data.path=fifo", "regular file"),
    ("data=text data.path=one.txt", "lengths=[32", "too short", "needs 33"),
    ("data=text data.path=text.txt data.seq_len=64", "the checkpoint decides"),
    ("data=text data.path=text.txt data.tokenizer=char", "the checkpoint decides"),
    ("data=text data.path=text.txt data.corpus=books", "data.path=text.txt", "reads no path"),
    ("data=text data.path=records.jsonl data.text_key=body", "no such field", "text_key=text"),
    ("data=huggingface data.path=text.txt", "is a file", "data=text data.path=text.txt"),
    ("data={corpus:text}", "the name of one of"),
    ("data.path=text.txt", "no such key"),
    ("checkpoint=", "must be text", "runs/"),
    ("checkpoint=null", "must be text"),
    ("checkpoint=[]", "a path, or a list of them"),
    ("checkpoint=[run,run]", "named twice"),
    ("checkpoint=[run,nowhere]", "nowhere", "no such file"),
    ("checkpoint=[run,learned]", "position=learned, not rope"),
    ("checkpoint=model", "trained elsewhere", "data=text data.path=book.txt"),
    ("checkpoint=[run,model]", "model: was trained elsewhere"),
    ("data=text data.path=text.txt checkpoint=[run,model]", "model: has another tokenizer"),
    ("data=text data.path=text.txt checkpoint=folder", "no config.json", "best.ckpt"),
    ("data=text data.path=text.txt checkpoint=weightless", "has neither model.safetensors"),
    ("data=text data.path=text.txt checkpoint=wordless", "tokenizer.json"),
    ("data=text data.path=text.txt checkpoint=owner/name", "no such folder", "the network"),
    ("data=text data.path=text.txt checkpoint=owner/name@main", "no such folder"),
    ("data=text data.path=text.txt checkpoint=runs/mine", "no such file or directory"),
    ("data=text data.path=text.txt checkpoint=folder/mine", "no such file or directory"),
    ("checkpoint=model data=text data.path=short.txt", "too short", "try lengths=["),
    ("as=columns", "two or more checkpoints", "try checkpoint=[run,OTHER_RUN]"),
    ("as=rows", "one of mean, columns", "try as=columns"),
    ("as=null", "one of mean, columns"),
    ("as=columns checkpoint=[run,learned] methods=[longrope]", "no factors of its own"),
    ("checkpoint={a:b}", "no such file"),
    ("checkpoint=/", "in there"),
    ("checkpoint=/dev/zero", "regular file"),
    ("checkpoint=fifo", "regular file"),
    ("checkpoint=text.txt", "not a checkpoint"),
    ("checkpoint=/etc/passwd", "not a checkpoint"),
    ("lenghts=[5]", "no such key", "did you mean lengths?"),
    ("+lengths=[5]", "cannot be added", "write lengths="),
    ("++foo=5", "cannot be added"),
    ("~lengths", "cannot be deleted"),
    ("run", "checkpoint=run"),
    ("--silent", "--help"),
    ("evaluation=default", "no such"),
    ("hydra.run.dir=x", "hydra"),
    ("seed=1", "no such key"),
    ("passages=0 lengths=[0]", "passages=0", "lengths=[0]"),
    ("methods=[yarm] trials=0 split=x", "yarm", "trials=0", "split=x"),
]
SIXTEEN = (
    *("none", "linear", "ntk", "dynamic", "ntk-by-parts", "yarn", "longrope", "llama3"),
    *("proportional", "rerope", "mean-rerope", "self-extend", "dual-chunk", "window", "crop"),
    "logn",
)


@pytest.mark.parametrize("row", rows(TABLE, every=20))
def test_evaluate_refuses(row: tuple, home: Path) -> None:
    check_refused("evaluate.py", row, home, ["checkpoint=run"])


@pytest.mark.slow
def test_a_method_that_the_model_refuses_leaves_its_reason(home: Path) -> None:
    """Of sixteen that were asked for, fifteen are measured."""
    few = ("checkpoint=run", "lengths=[32,64]", "passages=4", "output_dir=sixteen")
    done = forked("evaluate.py", *few, f"methods=[{','.join(SIXTEEN)}]", cwd=home)
    assert done.status == 0, done
    result = json.loads((home / "sixteen/extrapolation.json").read_text())
    assert list(result["reasons"]) == ["longrope"] and "no factors" in done.out
    assert all(None not in result["methods"][name]["nll"] for name in SIXTEEN if name != "longrope")


@pytest.mark.slow
def test_the_command_without_a_mistake_is_not_refused(home: Path) -> None:
    """Negative control: what every row is added to would run."""
    with pytest.raises(AssertionError):
        check_refused("evaluate.py", ("passages=1",), home, ["checkpoint=run", "output_dir=out"])
