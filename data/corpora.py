"""Where the text comes from, and how it is split into training and validation.

stdlib       the running Python's own library: real text, always there, no network
shakespeare  tiny Shakespeare (a pinned download), split at 90 % of the characters
books        seven public-domain novels (pinned downloads), split by novel
text         the user's own file, folder or glob

No text but those of the pinned files and the standard library is ever in memory as a whole.
"""

import hashlib
import os
import re
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from common.rules import one_of, problems, refuse
from data.download import fetch, pinned_files
from data.progress import OnProgress, silent
from data.textfiles import read_texts
from data.texts import SEPARATOR, Text, rejoined

T = TypeVar("T", Text, str)  # what can be split: it has a length, and stretches

NOT_STDLIB_FOLDERS = {
    *("test", "tests", "idlelib"),
    *("site-packages", "dist-packages", "__pycache__"),  # not of the standard library
}
# Written when a Python is built or set up, so different on every machine; all at the top.
GENERATED = re.compile(r"(_sysconfigdata|_sysconfig_vars|config-|sitecustomize|usercustomize)")


@dataclass(frozen=True)
class Corpus:
    """Documents by split, each an iterable of blocks.

    Training sees `train`, measures and chooses by `validation`; `report`, where a corpus has one,
    is for final figures and not looked at before.
    """

    name: str
    train: list[Text]
    validation: list[Text]
    report: list[Text] = field(default_factory=list)

    @property
    def documents(self) -> list[Text]:
        """All of them, whole where the splits have parts of one."""
        return rejoined([*self.train, *self.validation, *self.report])


def corpus_problems(name: Any, path: Any) -> list[str]:
    """A line if there is no such corpus, or if it is given a path wrongly."""
    if lines := problems({"data.corpus": name}, {"data.corpus": one_of(sorted(CORPORA), "stdlib")}):
        return lines
    if name == "text" and path is None:
        return [
            "data.path=null: data.corpus=text needs a file, a folder or a glob, "
            "e.g. data=text data.path=notes.txt"
        ]
    if name != "text" and path is not None:
        return [
            f"data.path={path}: data.corpus={name} reads no path; use data=text data.path={path}"
        ]
    if isinstance(path, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path):
        return [_not_a_url(path)]
    return []


def _not_a_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    name = Path(re.split("[?#]", rest)[0]).name or "notes.txt"
    way_out = f"download it, then data.path={name}"
    if scheme.lower() == "file":
        way_out = f"take data.path={rest}"
    return f"data.path={url}: must be a path on this machine, not a URL; {way_out}"


def load_corpus(
    name: str,
    *,
    path: str | os.PathLike[str] | None = None,
    on_progress: OnProgress = silent,
) -> Corpus:
    """Load the corpus `name`; `path` is for `text` alone, `on_progress` is told what takes long.

    Raises:
        ValueError: unknown name, wrong path, unusable text, failed download.
    """
    refuse(corpus_problems(name, path))
    return Corpus(name, **CORPORA[name](path=path, on_progress=on_progress))


def split_by_document(documents: dict[str, T], share: float) -> dict[str, list[T]]:
    """Give whole documents of about `share` of all characters to validation, the rest to train.

    Documents are gone through in the order of their names' sha256, which is as good as random
    and the same everywhere; each that still fits into the share is taken. Where that gives less
    than half of the share, because a few documents hold nearly all of the text, the longest
    document left is cut: what is missing to the share is taken from its end. So validation has
    from half of the share to all of it. It keeps the order of the hashes, so that its head is a
    fair sample of it; train is in the order given.
    """
    room = wanted = int(share * sum(map(len, documents.values())))
    order = sorted(documents, key=lambda name: hashlib.sha256(name.encode()).digest())
    train: dict[str, T] = dict(documents)
    validation: dict[str, T] = {}
    for name in order:
        if len(documents[name]) <= room:
            validation[name] = train.pop(name)
            room -= len(documents[name])
    if room > wanted / 2:
        # It has not fitted, so it is longer than the room: something of it is left for training.
        longest = max((name for name in order if name in train), key=lambda name: len(train[name]))
        cut = len(train[longest]) - room
        train[longest], validation[longest] = train[longest][:cut], train[longest][cut:]
    return {
        "train": list(train.values()),
        "validation": [validation[name] for name in order if name in validation],
    }


def split_by_position(documents: list[T]) -> dict[str, list[T]]:
    """Cut every document at 90 % of its characters: the head to train, the tail to validation."""
    cuts = [(text, len(text) * 9 // 10) for text in documents]
    return {
        "train": [text[:cut] for text, cut in cuts if cut],
        "validation": [text[cut:] for text, cut in cuts],
    }


def _stdlib(**_: Any) -> dict[str, list[Text]]:
    """The standard library's .py files, 5 % of them for validation."""
    root = Path(sysconfig.get_path("stdlib"))
    names = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in NOT_STDLIB_FOLDERS]
        inside = Path(folder).relative_to(root)
        names += [(inside / f).as_posix() for f in files if f.endswith(".py")]
    wanted = sorted(name for name in names if not GENERATED.match(name))
    texts = {name: _python_source(root / name) for name in wanted}
    if not any(texts.values()):
        raise ValueError(
            f"data.corpus=stdlib: this Python has no .py files in {root}; "
            "use a text of your own: data=text data.path=notes.txt"
        )
    documents = {name: Text.of(text) for name, text in texts.items() if text}
    return split_by_document(documents, share=0.05)


def _python_source(file: Path) -> str:
    """The file's text, or "" for the few sources in other encodings, which are passed over."""
    try:
        text = file.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    return "" if SEPARATOR in text else text


def _shakespeare(on_progress: OnProgress, **_: Any) -> dict[str, list[Text]]:
    """Tiny Shakespeare, one document; training on its first 90 % is nanoGPT's split."""
    (file,) = pinned_files("shakespeare")
    return split_by_position([Text.of(fetch(file, on_progress).decode(file.encoding))])


def _books(on_progress: OnProgress, **_: Any) -> dict[str, list[Text]]:
    """Whole novels: those to train on, one to choose by, one to report on."""
    splits: dict[str, list[Text]] = {"train": [], "choose": [], "report": []}
    for file in pinned_files("books"):
        text = fetch(file, on_progress).decode(file.encoding).replace("\r\n", "\n")
        splits[file.split].append(Text.of(text_of_the_work(text)))
    return {"train": splits["train"], "validation": splits["choose"], "report": splits["report"]}


def text_of_the_work(text: str) -> str:
    """What stands between the START and END lines of a Project Gutenberg text."""
    start = re.search(r"^\*\*\* ?START OF .*\n", text, flags=re.MULTILINE)
    end = re.search(r"^\*\*\* ?END OF ", text, flags=re.MULTILINE)
    assert start and end, "a pinned text without its markers"
    return text[start.end() : end.start()]


def _text(path: str | os.PathLike[str], on_progress: OnProgress, **_: Any) -> dict[str, list[Text]]:
    """The user's own texts: 10 % of ten or more documents, or the last 10 % of fewer."""
    texts = read_texts(path, on_progress)
    if len(texts) >= 10:
        return split_by_document(texts, share=0.1)
    return split_by_position(list(texts.values()))


CORPORA: dict[str, Callable[..., dict[str, list[Text]]]] = {
    "stdlib": _stdlib,
    "shakespeare": _shakespeare,
    "books": _books,
    "text": _text,
}
