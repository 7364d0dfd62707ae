"""Every mistake is answered in one or two lines, with exit status 2, and nothing is written."""

from pathlib import Path

import pytest

from commands import TINY, command, refused, write_text


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROPEWALK_CACHE", str(tmp_path / "cache"))
    write_text(tmp_path / "text.txt")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "short.txt").write_text("too short\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.hydra").mkdir()
    return tmp_path


# The arguments, and what the message must say: the key, the rule, what works.
MISTAKES = [
    ("rope=trition", "rope=trition", "did you mean triton", "auto, pytorch, triton"),
    ("model=null", "model=null", "nano"),
    ("model=[1,2]", "model=[1,2]", "nano"),
    ("model.n_heads=3", "model.n_heads=3", "model.d_model=32", "valid"),
    ("model.d_modle=64", "model.d_modle=64", "no such key", "did you mean model.d_model"),
    ("model.d_model=abc", "model.d_model=abc", "integer"),
    ("data.path=missing.txt", "data.path=missing.txt", "no such file"),
    ("data.path=empty.txt", "data.path=empty.txt", "empty"),
    ("data.path=short.txt", "data.path=short.txt", "seq_len"),
    ("data.seq_len=0", "data.seq_len=0", "at least 1"),
    ("optimizer.lr=-1", "optimizer.lr=-1", "above 0", "optimizer.lr=0.001"),
    ("optimizer.lr=nan", "optimizer.lr=nan", "finite"),
    ("optimizer.lr=1e400", "optimizer.lr=inf", "finite"),
    ("optimizer.lr=fast", "optimizer.lr=fast", "number"),
    ("trainer.max_steps=0", "trainer.max_steps=0", "at least 1"),
    ("trainer.precision=fp8", "trainer.precision=fp8", "bf16-mixed"),
    ("trainer.foo=1", "trainer.foo=1", "no such key"),
    ("+trainer.foo=1", "trainer.foo", "no such key"),
    ("+trainer.max_epochs=1", "trainer.max_epochs", "trainer.max_steps"),
    ("trainer.devices=2", "trainer.devices=2", "one device"),
    ("trainer.accelerator=foo", "trainer.accelerator=foo", "cpu"),
    ("callbacks.samples.every_n_validations=0", "callbacks.samples", "at least 1"),
    ("callbacks.samples._target_=nope.Foo", "callbacks.samples", "cannot be made"),
    ("callbacks.samples.max_new_tokens=100000000", "max_new_tokens=100000000", "to 10000"),
    ("callbacks.samples=[]", "callbacks.samples=[]", "one by one"),
    ("logger.tensorboard.version=../../x", "logger.tensorboard", "inside the run"),
    ("+trainer.profiler=nope", "trainer.profiler=nope", "simple, advanced"),
    ("trainer.precision=16-true", "trainer.precision=16-true", "32-true work"),
    ("optimizer.lr=1e38", "optimizer.lr=1e+38", "at most 1000"),
    ("data.batch_size=1000000000000", "data.batch_size=1000000000000", "GiB"),
    ("data.num_workers=100000", "data.num_workers=100000", "to 256"),
    ("scaling.options={factor:3}", "scaling.options={factor:3}", "no key factor"),
    ("seed=1,2", "seed=1,2", "-m", "seed=[1,2]"),
    ("seed=${nope}", "seed=${nope}", "'nope' not found"),
    ("name=..", "name=..", "name=mine"),
    (f"name={'a' * 200}", "name=aaa", "100 bytes"),
    ("evaluation.lengths=5", "evaluation.lengths=5", "list"),
    ("evaluation.methods=[yarm]", "evaluation.methods=[yarm]", "did you mean yarn"),
    ("evaluation.methods=[none@8]", "evaluation.methods=[none@8]", "takes no factor"),
    ("evaluation.methods=[longrope]", "evaluation.methods=[longrope]", "short_factor"),
    ("rope.fraction=1.5", "rope.fraction=1.5", "0"),
    ("+foo=1", "+foo=1", "no such key"),
    ("~model", "~model", "cannot be deleted"),
    ("foo=(", "foo=(", "quote"),
    ("model.n_heads", "model.n_heads", "key=value"),
    ("seed=-1", "seed=-1", "from 0 to 4294967295"),
    ("position=ropee", "position=ropee", "rope"),
    ("rope.fused_projection=true", "rope.fused_projection=true", "heads of 64"),
    ("scaling.factor=4", "scaling.factor=4", "none"),
    ("run_dir=text.txt/run", "run_dir=text.txt/run", "is a file"),
    ("run_dir=run", "run_dir=run", "already holds a run"),
    ("resume=nowhere", "resume=nowhere", "no run"),
    ("init_from=nowhere", "init_from=nowhere", "no such file"),
    ("trainer.accelerator=gpu", "trainer.accelerator=gpu", "no CUDA GPU"),
    ("data.tokenizer=words", "data.tokenizer=words", "byte"),
]


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        # tests/bad_input has most of them by default
        pytest.param(row[0], row[1:], marks=pytest.mark.slow if number % 4 else ())
        for number, row in enumerate(MISTAKES)
    ],
)
def test_train_refuses(argument: str, expected: tuple, home: Path, monkeypatch, capfd) -> None:
    before = sorted(home.rglob("*"))
    options = [*TINY, "data.path=text.txt", argument]
    message = refused("train.py", *options, monkeypatch=monkeypatch, capfd=capfd)
    assert len(message.splitlines()) <= 2, message
    for part in expected:
        assert part in message
    left = [path for path in sorted(home.rglob("*")) if "cache" not in path.parts]
    assert left == before


def test_all_problems_come_out_at_once(home: Path, monkeypatch, capfd) -> None:
    mistakes = ("optimizer.lr=-1", "model.n_heads=3", "data.seq_len=0", "trainer.max_steps=0")
    options = (*TINY, "data.path=text.txt", *mistakes)
    message = refused("train.py", *options, monkeypatch=monkeypatch, capfd=capfd)
    assert all(mistake in message for mistake in mistakes)


def test_a_last_learning_rate_that_is_never_reached(home: Path, monkeypatch, capfd) -> None:
    typed = ("optimizer.final_lr_fraction=0.5", "optimizer.warmup_steps=20")
    message = refused("train.py", *TINY, *typed, monkeypatch=monkeypatch, capfd=capfd)
    assert "final_lr_fraction=0.5: has no effect" in message and "warmup_steps=2" in message


@pytest.mark.parametrize("script", ["evaluate.py", "generate.py"])
def test_a_checkpoint_is_needed(script: str, home: Path, monkeypatch, capfd) -> None:
    assert "checkpoint=null" in refused(script, monkeypatch=monkeypatch, capfd=capfd)
    message = refused(script, "checkpoint=no where", monkeypatch=monkeypatch, capfd=capfd)
    assert "no where: no such file or directory" in message
    (home / "broken.ckpt").write_bytes(b"PK\x03\x04 not a checkpoint")
    message = refused(script, "checkpoint=broken.ckpt", monkeypatch=monkeypatch, capfd=capfd)
    assert "damaged" in message


def test_a_real_process_exits_with_status_2(tmp_path: Path) -> None:
    done = command("train.py", "rope=trition", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == "" and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
