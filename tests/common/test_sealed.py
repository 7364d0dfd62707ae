"""Damage to a sealed archive is always seen, and nothing in one can grow or lead elsewhere."""

import os
import shutil
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from common.sealed import damage, is_sealed, seal

PAGE = 4096


def archive(path: Path, *, sealed: bool = True) -> bytes:
    """A torch.save of 40 KB of weights, at `path`; its bytes."""
    generator = torch.Generator().manual_seed(0)
    weights = {f"layer{i}": torch.randn(50, 50, generator=generator) for i in range(4)}
    with open(path, "w+b") as file:
        torch.save(weights, file)
        if sealed:
            seal(file)
    return path.read_bytes()


def damages(whole: bytes, positions: int) -> Iterator[tuple[str, bytes]]:
    """Each kind of damage at many places, with its name."""
    for i in range(positions):
        at = i * len(whole) // positions
        flipped = bytearray(whole)
        flipped[at] ^= 1 << i % 8
        yield f"bit {i % 8} of byte {at}", bytes(flipped)
        yield f"cut to {at}", whole[:at]
    for at in range(len(whole) - 130, len(whole)):  # the archive's last record and the comment
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        yield f"byte {at}", bytes(flipped)
        yield f"cut to {at}", whole[:at]
    for start in range(0, len(whole), PAGE):
        zeroed = whole[:start] + bytes(len(whole[start : start + PAGE])) + whole[start + PAGE :]
        yield f"page at {start}", zeroed
    for more in (b"\0", b"x", b"\n" * 100, whole):
        yield f"{len(more)} bytes appended", whole + more
        yield f"{len(more)} bytes before it", more + whole


def unseen(path: Path, whole: bytes, positions: int) -> list[str]:
    """The damages, by name, that `damage` does not see."""
    names = []
    for name, damaged in damages(whole, positions):
        path.write_bytes(damaged)
        if damaged != whole and damage(path) is None:
            names.append(name)
    return names


def test_a_sealed_archive_is_read_as_before(tmp_path: Path) -> None:
    path = tmp_path / "x"
    archive(path)
    assert damage(path) is None and is_sealed(path)
    assert torch.load(path, weights_only=True)["layer3"].shape == (50, 50)
    assert len(torch.load(path, weights_only=True, mmap=True)) == 4
    with zipfile.ZipFile(path) as file:
        assert file.comment.startswith(b"ropewalk sha256 ") and file.testzip() is None


def test_no_damage_goes_unseen(tmp_path: Path) -> None:
    assert unseen(tmp_path / "x", archive(tmp_path / "x"), positions=100) == []


@pytest.mark.slow
def test_no_damage_goes_unseen_at_500_positions(tmp_path: Path) -> None:
    assert unseen(tmp_path / "x", archive(tmp_path / "x"), positions=500) == []


def test_torch_alone_sees_few_flipped_bits(tmp_path: Path) -> None:
    """Negative control: without the seal most of them end in other weights, silently."""
    whole, path, silent = archive(tmp_path / "x"), tmp_path / "x", 0
    for i in range(100):
        flipped = bytearray(whole)
        flipped[i * len(whole) // 100] ^= 1 << i % 8
        path.write_bytes(flipped)
        try:
            torch.load(path, weights_only=True)
            silent += 1
        except Exception:
            pass
    assert silent > 80


def test_without_a_seal_the_parts_own_checksums_count(tmp_path: Path) -> None:
    path = tmp_path / "x"
    whole = archive(path, sealed=False)
    assert damage(path) is None and not is_sealed(path)
    with zipfile.ZipFile(path) as file:
        part = file.getinfo("archive/data/2")
    path.write_bytes(flip(whole, part.header_offset + 1000))
    assert damage(path) == "the checksum of its part 'archive/data/2' differs"
    for more in (whole + b"x", b"x" + whole, whole + whole, whole[:-1], whole[: len(whole) // 2]):
        path.write_bytes(more)
        assert damage(path) is not None


def flip(whole: bytes, at: int) -> bytes:
    """The same with one bit of the byte `at` changed."""
    return whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]


def test_two_files_in_one_are_damage(tmp_path: Path) -> None:
    sealed = archive(tmp_path / "x")
    plain = archive(tmp_path / "y", sealed=False)
    for both in (sealed + sealed, plain + sealed, sealed + plain):
        (tmp_path / "x").write_bytes(both)
        assert damage(tmp_path / "x") is not None


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "byte").write_bytes(b"\x80")
    os.mkfifo(tmp_path / "fifo")
    assert damage(tmp_path / "empty") == "it is empty"
    assert damage(tmp_path / "byte").startswith("it has no archive's end")
    assert damage("/etc/passwd").startswith("it has no archive's end")
    for path in (tmp_path / "fifo", tmp_path, "/dev/zero", "/dev/stdin"):
        assert damage(path) == "it cannot be read: it is no regular file"
    assert damage(tmp_path / "none") == "it cannot be read: No such file or directory"


def zipped(path: Path, *names: str, compression: int = zipfile.ZIP_STORED) -> Path:
    """An archive with parts of these names, sealed."""
    with open(path, "w+b") as file:
        with zipfile.ZipFile(file, "w", compression) as archive:
            for name in names:
                archive.writestr(name, bytes(100_000))
        seal(file)
    return path


@pytest.mark.parametrize(
    ("names", "compression", "reason"),
    [
        (["x/data.pkl"], zipfile.ZIP_DEFLATED, "'x/data.pkl' is compressed"),
        (["/etc/x"], zipfile.ZIP_STORED, "leads elsewhere"),
        (["x/../../y"], zipfile.ZIP_STORED, "leads elsewhere"),
        (["..\\y"], zipfile.ZIP_STORED, "leads elsewhere"),
        (["C:\\y"], zipfile.ZIP_STORED, "leads elsewhere"),
    ],
)
def test_a_seal_makes_no_archive_safe(
    names: list[str], compression: int, reason: str, tmp_path: Path
) -> None:
    wrong = damage(zipped(tmp_path / "x", *names, compression=compression))
    assert wrong is not None and reason in wrong


def rewritten(path: Path, change: str) -> None:
    """An archive of two parts whose directory makes more of the file than there is, sealed."""
    shutil.copy(zipped(path.with_name("whole"), "a", "b"), path)
    with open(path, "r+b") as file:
        whole = bytearray(file.read()[:-80])
        whole[-2:] = b"\0\0"
        first = whole.index(b"PK\x01\x02")
        second = whole.index(b"PK\x01\x02", first + 4)
        if change == "overlap":
            whole[second + 42 : second + 46] = struct.pack("<L", 0)
        elif change == "size":
            whole[second + 20 : second + 28] = struct.pack("<LL", 2**31, 2**31)
        else:
            whole[second + 46 : second + 47] = b"a"
        file.seek(0)
        file.truncate()
        file.write(whole)
        seal(file)


@pytest.mark.parametrize(
    ("change", "reason"),
    [("overlap", "overlap"), ("size", "larger than the file"), ("name", "two parts of one name")],
)
def test_parts_that_overlap_or_claim_more(change: str, reason: str, tmp_path: Path) -> None:
    rewritten(tmp_path / "x", change)
    wrong = damage(tmp_path / "x")
    assert wrong is not None and reason in wrong
