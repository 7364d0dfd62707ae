"""Where the text comes from, and how it is split into training and validation.

stdlib       the running Python's own library: real text, always there, no network
shakespeare  tiny Shakespeare (a pinned download), split at 90 % of the characters
books        seven public-domain novels (pinned downloads), split by novel
text         the user's own file, folder or glob: texts and files of records (`data.recordfiles`)
huggingface  a data set on this machine, or of the Hugging Face Hub (`data.huggingface`)
mix          several of these, each split by itself (`data.sources`)

No text but those of the pinned files and the standard library is ever in memory as a whole.
"""

import hashlib
import os
import re
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from common.rules import one_of, problems, refuse
from data.documents import share_out
from data.download import fetch, pinned_files
from data.huggingface import dataset_files, dataset_texts, located, path_problems
from data.origin import Origin, key_problems
from data.progress import OnProgress, silent
from data.recordfiles import TEXT_KEY, RecordFile
from data.textfiles import read_texts, text_files
from data.texts import SEPARATOR, Text, rejoined
from data.userfiles import UserFile, told_of_bytes, untold

MIX = "mix"

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


def origin_problems(settings: Mapping[str, Any]) -> list[str]:
    """A line for each wrong key of the group `data` that says where the text comes from."""
    return corpus_problems(settings["corpus"], settings["path"]) or key_problems(settings)


def corpus_problems(name: Any, path: Any) -> list[str]:
    """A line if there is no such corpus, or if it is given a path wrongly."""
    if lines := problems({"data.corpus": name}, {"data.corpus": one_of(sorted(CORPORA), "stdlib")}):
        return lines
    if name == "text" and path is None:
        return [
            "data.path=null: data.corpus=text needs a file, a folder or a glob, "
            "e.g. data=text data.path=notes.txt"
        ]
    if name == "huggingface":
        return path_problems(path)
    if name != "text" and path is not None:
        return [
            f"data.path={path}: data.corpus={name} reads no path; use data=text data.path={path}"
        ]
    if isinstance(path, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path):
        return [_not_a_url(path)]
    return []


def source_of(typed: str) -> tuple[str, str | None]:
    """Corpus and path of one of `data.sources`.

    It is a corpus's name, a path to the user's own text, or huggingface:PATH.
    """
    corpus, colon, path = typed.partition(":")
    if colon and corpus == "huggingface":
        return corpus, path
    return (typed, None) if typed in CORPORA else ("text", typed)


def _not_a_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    name = Path(re.split("[?#]", rest)[0]).name or "notes.txt"
    way_out = f"download it, then data.path={name}"
    if scheme.lower() == "file":
        way_out = f"take data.path={rest}"
    return f"data.path={url}: must be a path on this machine, not a URL; {way_out}"


def load_corpus(
    corpus: str,
    *,
    path: str | os.PathLike[str] | None = None,
    on_progress: OnProgress = silent,
    **keys: Any,
) -> Corpus:
    """Load a corpus by its name; `on_progress` is told what takes long.

    `path` is for `text` and `huggingface` alone; `keys` are the others of an `Origin`.

    Raises:
        ValueError: unknown name, wrong path or key, unusable text, failed download.
    """
    settings = {"corpus": corpus, "path": path, **keys}
    refuse(origin_problems(settings))
    return Corpus(corpus, **CORPORA[corpus](origin=Origin.of(settings), on_progress=on_progress))


def origin_files(origin: Origin, on_progress: OnProgress = silent) -> dict[str, UserFile]:
    """The files that the text of `origin` is read from, by name; none of a corpus of our own.

    Raises:
        ValueError: no such files; or a field is named, and there are no records to have it.
    """
    if origin.path is None:
        return {}
    if origin.corpus == "huggingface":
        return dataset_files(located(origin), on_progress)
    files = text_files(origin.path)
    records = any(isinstance(file, RecordFile) for file in files.values())
    if not records and origin.text_key != TEXT_KEY:
        raise ValueError(
            f"data.text_key={origin.text_key}: data.path={origin.path} holds texts and no records; "
            "leave it out"
        )
    return files


def lasting_path(origin: Origin) -> str | None:
    """`data.path` as it leads to the same text from any folder, and at any time."""
    if origin.corpus == "huggingface":
        return located(origin).path
    return None if origin.path is None else str(Path(origin.path).absolute())


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


def _mix(origin: Origin, on_progress: OnProgress) -> dict[str, list[Text]]:
    """All splits of the sources, one source after the other."""
    splits: dict[str, list[Text]] = {"train": [], "validation": [], "report": []}
    for typed in origin.sources or ():
        name, path = source_of(typed)
        corpus = load_corpus(name, path=path, on_progress=on_progress)
        for split, texts in splits.items():
            texts += getattr(corpus, split)
    return splits


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


def _text(origin: Origin, on_progress: OnProgress) -> dict[str, list[Text]]:
    """The user's own texts: 10 % of ten or more documents, or the last 10 % of fewer.

    Files of records are shared out by themselves, all of their records together.
    """
    files = origin_files(origin, on_progress)
    records = [file for file in files.values() if isinstance(file, RecordFile)]
    texts = read_texts(files, on_progress)
    if len(texts) >= 10:
        splits = split_by_document(texts, share=0.1)
    else:
        splits = split_by_position(list(texts.values()))
    if records:
        shared = _split_records(records, origin.text_key, on_progress)
        splits = {split: [*splits[split], *shared[split]] for split in splits}
    return splits


def _split_records(
    files: list[RecordFile], key: str, on_progress: OnProgress
) -> dict[str, list[Text]]:
    """The records of all files, one after the other; `on_progress` is told of the first reading."""
    on_bytes = told_of_bytes(files, on_progress)

    def read() -> Iterator[str]:
        nonlocal on_bytes
        for file in files:
            yield from file.documents(key, on_bytes)
        on_bytes = untold

    return share_out(read)


def _huggingface(origin: Origin, on_progress: OnProgress) -> dict[str, list[Text]]:
    """A data set of Hugging Face's, with its own validation split where it has one."""
    return dataset_texts(located(origin), on_progress)


CORPORA: dict[str, Callable[..., dict[str, list[Text]]]] = {
    "stdlib": _stdlib,
    "shakespeare": _shakespeare,
    "books": _books,
    "text": _text,
    "huggingface": _huggingface,
    MIX: _mix,
}
