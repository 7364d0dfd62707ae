"""Checkpoints: whole or not at all, and refused with a line where they are not what they say."""

import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

import checkpoints
from common.sealed import is_sealed, seal
from disk import file_size_limit
from training.checkpoint_files import AtomicCheckpointIO, find_checkpoint, read_checkpoint
from training.divergence import Diverged

NAN, BIG = torch.full((16,), float("nan")), torch.full((16,), float("inf"))


def refusal(path: Path, key: str = "checkpoint") -> str:
    """What is said of a checkpoint that must be refused: one line that begins with the key."""
    with pytest.raises(ValueError) as error:
        read_checkpoint(path, key)
    text = str(error.value)
    assert text.startswith(f"{key}={path}: ") and "\n" not in text
    return text


def test_what_is_saved_is_read_and_carries_a_digest(tmp_path: Path) -> None:
    path = checkpoints.write(tmp_path / "last.ckpt")
    assert is_sealed(path)
    for key in ("checkpoint", "resume"):
        read = read_checkpoint(path, key)
        assert read.keys() == checkpoints.contents().keys() and read["global_step"] == 3
    assert AtomicCheckpointIO().load_checkpoint(path)["epoch"] == 0


def test_a_checkpoint_of_before_there_were_digests_is_read(tmp_path: Path) -> None:
    torch.save(checkpoints.contents(), tmp_path / "old.ckpt")
    assert not is_sealed(tmp_path / "old.ckpt")
    assert read_checkpoint(tmp_path / "old.ckpt", "resume")["global_step"] == 3


def test_a_failed_save_leaves_the_old_checkpoint_whole(tmp_path: Path) -> None:
    path = checkpoints.write(tmp_path / "last.ckpt")
    with pytest.raises(AttributeError):  # a lambda cannot be pickled
        checkpoints.write(path, global_step=lambda: 2)
    assert read_checkpoint(path)["global_step"] == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_full_disk_is_an_oserror_whatever_torch_makes_of_it(tmp_path: Path, monkeypatch) -> None:
    path = checkpoints.write(tmp_path / "last.ckpt")
    before = path.read_bytes()
    with pytest.raises(OSError, match="File too large") as error, file_size_limit(5000):
        checkpoints.write(path, global_step=4)
    assert error.value.filename == str(path)
    assert path.read_bytes() == before and [e.name for e in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("value", [NAN, BIG.bfloat16(), -BIG.half()], ids=str)
def test_what_is_not_finite_is_not_saved(value: torch.Tensor, tmp_path: Path) -> None:
    path = checkpoints.write(tmp_path / "last.ckpt")
    before = path.read_bytes()
    moments = {"optimizer_states": [{"state": {0: {"step": torch.ones(()), "exp_avg": value}}}]}
    for changed, name in (
        (with_weight("net.norm.weight", value), "state_dict.net.norm.weight"),
        (moments, "optimizer_states.0.state.0.exp_avg"),
    ):
        with pytest.raises(Diverged, match=rf"^{name} holds values that are NaN .* at step 3: "):
            AtomicCheckpointIO().save_checkpoint(checkpoints.contents(**changed), path)
    assert path.read_bytes() == before and [e.name for e in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_run_that_has_vanished_is_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        checkpoints.write(tmp_path / "run/checkpoints/last.ckpt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["checkpoint", "resume", "init_from"])
def test_every_reader_sees_damage(key: str, tmp_path: Path) -> None:
    path = checkpoints.write(tmp_path / "x.ckpt")
    whole = path.read_bytes()
    path.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    assert "damaged, or not a checkpoint (its sha256 differs); give" in refusal(path, key)


def test_a_part_taken_out_is_seen_with_the_digest_taken_off_as_well(tmp_path: Path) -> None:
    whole = checkpoints.write(tmp_path / "whole.ckpt")
    with zipfile.ZipFile(whole) as archive:
        names = archive.namelist()
        for left_out in names:
            with zipfile.ZipFile(tmp_path / "x.ckpt", "w") as fewer:
                for name in names:
                    if name != left_out:
                        fewer.writestr(name, archive.read(name))
            assert "damaged" in refusal(tmp_path / "x.ckpt"), left_out


def test_the_newest_whole_one_is_named(tmp_path: Path) -> None:
    directory = tmp_path / "a run" / "checkpoints"
    directory.parent.mkdir()
    for name in ("step-00000001.ckpt", "step-00000002.ckpt", "best.ckpt", "last.ckpt"):
        checkpoints.write(directory / name)
    os.truncate(directory / "best.ckpt", 1000)
    quoted = f"'checkpoint={directory}/last.ckpt'"
    assert refusal(directory / "best.ckpt").endswith(f"the newest whole one is {quoted}")
    os.truncate(directory / "last.ckpt", 1000)
    assert "step-00000002.ckpt'" in refusal(directory / "best.ckpt")
    (directory / "best.ckpt").unlink()
    with pytest.raises(ValueError, match=r"no config.json in there; .*/step-00000002.ckpt"):
        find_checkpoint(directory.parent)


class Code:
    """Something whose pickle writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple:
        return open, (self.path, "w")


def test_code_is_never_run(tmp_path: Path) -> None:
    torch.save(checkpoints.contents(ropewalk__config=Code(tmp_path / "ran")), tmp_path / "x.ckpt")
    assert "more than tensors and plain data" in refusal(tmp_path / "x.ckpt")
    (tmp_path / "x.ckpt").write_bytes(pickle.dumps(Code(tmp_path / "ran")))
    assert "damaged, or not a checkpoint" in refusal(tmp_path / "x.ckpt")
    torch.save(Code(tmp_path / "ran"), tmp_path / "x.ckpt", _use_new_zipfile_serialization=False)
    assert "damaged, or not a checkpoint" in refusal(tmp_path / "x.ckpt")
    assert not (tmp_path / "ran").exists()


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (Path("/etc/passwd"), tmp_path / "fifo", tmp_path, Path("/dev/zero")):
        assert "damaged, or not a checkpoint" in refusal(path)
    for path, what in (
        (tmp_path / "fifo", "neither"),
        (tmp_path / "none", "no such"),
        ("\0", "no"),
    ):
        with pytest.raises(ValueError, match=f"{what} .*; give a run directory"):
            find_checkpoint(path)


def with_weight(name: str, value: torch.Tensor) -> dict[str, Any]:
    return {"state_dict": checkpoints.contents()["state_dict"] | {name: value}}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"ropewalk": None}, "ropewalk: must be"),
    ({"ropewalk": [1]}, "ropewalk: must be"),
    ({"state_dict": None}, "state_dict: must be a dict of tensors, and is missing"),
    ({"state_dict": {}}, "state_dict: must be a dict of tensors"),
    ({"state_dict": {"net.norm.weight": 5}}, "state_dict: must be a dict of tensors"),
    ({"state_dict": {"net.x": torch.ones(2, 2).to_sparse()}}, "state_dict: must be"),
    ({"state_dict": {"net.x": torch.ones(2, device="meta")}}, "state_dict: must be"),
    ({"state_dict": {"net.x": torch.ones(1).expand(10**9, 10**9)}}, "larger than what is stored"),
    (with_weight("net.norm.weight", NAN), "net.norm.weight holds values that are NaN or infinite"),
    (with_weight("net.norm.weight", BIG), "net.norm.weight holds values that are NaN or infinite"),
    (with_weight("net.norm.weight", BIG.bfloat16()), "NaN or infinite"),
    ({"global_step": None}, "global_step: must be an integer of at least 0, and is missing"),
    ({"global_step": "5"}, "global_step: must be an integer of at least 0, and is a str"),
    ({"global_step": True}, "global_step: must be"),
    ({"global_step": torch.tensor(5)}, "global_step: must be"),
    ({"ropewalk__config": None}, "ropewalk.config: must be a dict of plain data"),
    ({"ropewalk__config": "model"}, "ropewalk.config: must be a dict of plain data"),
    ({"ropewalk__config": {"model": torch.ones(1)}}, "ropewalk.config: must be"),
    ({"ropewalk__config": {1: 2}}, "ropewalk.config: must be"),
    ({"ropewalk__config__data": None}, "ropewalk.config.data: must be a dict"),
    ({"ropewalk__config__data__seq_len": "16"}, "data.seq_len: must be an integer"),
    ({"ropewalk__config__data__corpus": 5}, "data.corpus: must be text"),
    ({"ropewalk__config__data__path": [5]}, "data.path: must be null or text"),
    ({"ropewalk__vocab_size": 10**9}, "ropewalk.vocab_size: must be an integer from 1"),
    ({"ropewalk__vocab_size": "256"}, "ropewalk.vocab_size: must be an integer from 1"),
    ({"ropewalk__tokenizer": "byte"}, "ropewalk.tokenizer: must be a dict"),
    ({"ropewalk__tokenizer__name": None}, "ropewalk.tokenizer: must be a dict"),
    ({"ropewalk__tokenizer__name": ["byte"]}, "ropewalk.tokenizer: must be a dict"),
    ({"ropewalk__tokenizer": {"name": "char", "characters": 5}}, "ropewalk.tokenizer: must be"),
    ({"ropewalk__fingerprint": None}, "ropewalk.fingerprint: must be a dict"),
    ({"ropewalk__fingerprint": {"corpus": "text"}}, "ropewalk.fingerprint: must be a dict"),
]


@pytest.mark.parametrize(("changed", "reason"), WRONG, ids=lambda v: str(v)[:40])
def test_what_a_checkpoint_must_hold(changed: dict[str, Any], reason: str, tmp_path: Path) -> None:
    assert reason in refusal(checkpoints.write(tmp_path / "x.ckpt", **changed))


@pytest.mark.parametrize(
    "content", [5, [1, 2], torch.ones(3), {}, OrderedDict(a=1), {"ropewalk": None}], ids=str
)
def test_what_is_no_checkpoint_of_a_run(content: object, tmp_path: Path) -> None:
    with open(tmp_path / "x.ckpt", "w+b") as file:
        torch.save(content, file)
        seal(file)
    assert "not a whole checkpoint (ropewalk: must be" in refusal(tmp_path / "x.ckpt")


PARTS = ("epoch", "loops", "callbacks", "optimizer_states", "lr_schedulers")


@pytest.mark.parametrize("value", [None, "text", -1, [5, 6]], ids=str)
@pytest.mark.parametrize("key", [*PARTS, "pytorch-lightning_version"])
def test_what_training_goes_on_from(key: str, value: object, tmp_path: Path) -> None:
    path = checkpoints.write(tmp_path / "x.ckpt", **{key: value})
    assert f"{key}: must be" in refusal(path, "resume")
    assert read_checkpoint(path, "checkpoint")  # its weights are all there


def test_data_that_share_their_parts_are_not_walked_for_ever(tmp_path: Path) -> None:
    node: list[Any] = []
    for _ in range(60):
        node = [node] * 10
    path = checkpoints.write(tmp_path / "x.ckpt", ropewalk__config={"model": node})
    assert "ropewalk.config: must be a dict of plain data" in refusal(path)
