"""The user's own texts: a file, a folder or a glob, read as UTF-8 or refused by name."""

import glob
import os
from pathlib import Path

SUFFIXES = (".txt", ".md", ".py")  # what is read of a folder


def read_texts(path: str | os.PathLike[str]) -> dict[str, str]:
    """The texts that `data.path` names, by POSIX path (below the folder, for a folder), sorted.

    A folder gives its .txt, .md and .py files at any depth, hidden ones left out; a glob gives
    every file that it matches (`**` any depth). Of several files the empty ones are left out.

    Raises:
        ValueError: nothing there, nothing in it, or a file that is not UTF-8 text.
    """
    if not isinstance(path, (str, os.PathLike)) or not str(path):
        raise ValueError(f"data.path={path}: must be a file, a folder or a glob")
    try:
        texts = {name: decode(file) for name, file in sorted(_files(Path(path)).items())}
    except OSError as error:
        raise ValueError(
            f"data.path={path}: cannot read {error.filename} ({error.strerror}); "
            "it must be a file that you may read"
        ) from error
    texts = {name: text for name, text in texts.items() if text}
    if not texts:
        raise ValueError(f"data.path={path}: is empty; give a text, or use data=stdlib")
    return texts


def decode(file: Path) -> str:
    """The text of a UTF-8 file; ValueError with the byte offset of the first wrong byte."""
    content = file.read_bytes()
    try:
        text = content.decode("utf-8")
        # UTF-16 passes for UTF-8 full of NULs; and NUL is what separates documents here.
        wrong = text.find("\0")
        if wrong < 0:
            return text
        offset = len(text[:wrong].encode("utf-8"))
    except UnicodeDecodeError as error:
        offset = error.start
    line = content.count(b"\n", 0, offset) + 1
    raise ValueError(
        f"data.path={file}: not UTF-8 text (byte 0x{content[offset]:02x} at offset {offset}, "
        f"line {line});\nconvert it, e.g. iconv -f LATIN1 -t UTF-8 (or -f UTF-16) {file} > utf8.txt"
    )


def _files(path: Path) -> dict[str, Path]:
    """The files that `path` names, by the name to sort them by; ValueError if there are none."""
    if path.is_dir():
        files = {p.relative_to(path).as_posix(): p for p in path.rglob("*") if _wanted(p, path)}
        if not files:
            raise ValueError(f"data.path={path}: no {', '.join(SUFFIXES)} file below this folder")
        return files
    if path.is_file():
        return {path.name: path}
    if os.path.lexists(path):
        raise ValueError(f"data.path={path}: must be a regular file, a folder or a glob")
    found = [Path(match) for match in glob.glob(str(path), recursive=True)]
    if files := {match.as_posix(): match for match in found if match.is_file()}:
        return files
    raise ValueError(
        f"data.path={path}: no such file, seen from {Path.cwd()}; "
        "give a file, a folder or a glob that exists, or use data=stdlib"
    )


def _wanted(file: Path, folder: Path) -> bool:
    """Whether a folder's reader takes this entry: a text by its suffix, not hidden."""
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return file.suffix in SUFFIXES and not hidden and file.is_file()
