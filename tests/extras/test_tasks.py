"""Tasks in training windows: functions of numbers, of the right form, in the right share."""

import hashlib
import itertools
import re
from pathlib import Path

import numpy as np
import pytest

import extras  # noqa: F401 (registers the tasks)
from data import ByteTokenizer, CharTokenizer, TextDataModule
from data.batches import batch
from data.passkey import (
    EVALUATION_KEYS,
    KEYS,
    STATEMENT,
    TRAINING_KEYS,
    character_ids,
    draw_names,
    is_for_evaluation,
    statements,
)
from data.tasks import Mixture

STATED = re.compile(rb" \[the key of ([a-z]{5}) is ([0-9]{5})\] ")
TOKENS = np.arange(100_000)  # every token tells its position


def mixture_of(**shares: float) -> Mixture:
    """These shares of windows, of bytes."""
    return Mixture(shares, ByteTokenizer())


PASSKEYS, REPEATS = mixture_of(passkey=1), mixture_of(repeats=1)
STRINGS, SPLICES = mixture_of(strings=1), mixture_of(splices=1)


def windows(mixture: Mixture | None, count: int, seq_len: int = 512, step: int = 0) -> np.ndarray:
    """`count` windows of seq_len + 1 tokens."""
    shape = {"tokens": TOKENS, "seq_len": seq_len, "batch_size": count}
    inputs, targets = batch(3, step, mixture=mixture, **shape)
    assert np.array_equal(inputs[:, 1:], targets[:, :-1])
    return np.concatenate([inputs, targets[:, -1:]], axis=1)


# --- keys and statements --------------------------------------------------------------------


def test_no_key_is_for_both() -> None:
    assert sorted([*EVALUATION_KEYS, *TRAINING_KEYS]) == list(range(KEYS))
    assert is_for_evaluation(EVALUATION_KEYS).all() and not is_for_evaluation(TRAINING_KEYS).any()
    assert len(EVALUATION_KEYS) == KEYS // 10


def test_no_digit_of_a_key_tells_what_it_is_for() -> None:
    digits = EVALUATION_KEYS[:, None] // 10 ** np.arange(5) % 10
    for place in range(5):
        assert np.abs(np.bincount(digits[:, place], minlength=10) - 1000).max() < 20


def test_a_statement_reads_as_it_should() -> None:
    text = statements(np.array([[0, 26**5 - 1], [27, 1]]), np.array([[0, 99999], [1234, 5]]))
    assert text.shape == (2, 2, STATEMENT)
    assert [bytes(row) for row in text.reshape(4, -1)] == [
        b" [the key of aaaaa is 00000] ",
        b" [the key of zzzzz is 99999] ",
        b" [the key of aaabb is 01234] ",
        b" [the key of aaaab is 00005] ",
    ]


def test_names_of_a_window_differ_whatever_is_drawn() -> None:
    same = np.full((1, 5), 2**64 - 1, dtype=np.uint64)
    assert len(set(draw_names(same)[0])) == 5 and draw_names(same).max() < 26**5


# --- passkeys -------------------------------------------------------------------------------


def test_every_key_is_stated_and_asked_for_and_all_else_is_the_text() -> None:
    plain, tasks = windows(None, 400), windows(PASSKEYS, 400)
    counts, distances, at_end = [], [], 0
    for text, row in zip(plain, tasks, strict=True):
        written = row < 256  # the text's tokens are far above
        written &= row != text
        found = list(STATED.finditer(np.where(written, row, 255).astype(np.uint8).tobytes()))
        assert written.sum() == STATEMENT * len(found)
        assert np.array_equal(row[~written], text[~written])
        places: dict[bytes, list[int]] = {}
        for match in found:
            assert not is_for_evaluation(np.array(int(match[2])))
            places.setdefault(match[1], []).append(match.start())
        assert all(len(starts) == 2 for starts in places.values())
        assert all(len({m[2] for m in found if m[1] == name}) == 1 for name in places)
        counts.append(len(places))
        distances += [asked - stated for stated, asked in places.values()]
        at_end += found[-1].end() == len(row)
    assert set(counts) == {1, 2, 3, 4, 5} and abs(np.mean(counts) - 3) < 0.3
    assert min(distances) == STATEMENT and max(distances) > 400
    assert 160 < at_end < 240


def test_a_window_that_just_holds_one_key() -> None:
    rows = windows(PASSKEYS, 20, seq_len=2 * STATEMENT - 1).astype(np.uint8)
    for row in rows:
        assert bytes(row[:STATEMENT]) == bytes(row[STATEMENT:]) and STATED.match(bytes(row))


# --- repeats --------------------------------------------------------------------------------


@pytest.mark.parametrize(("seq_len", "longest"), [(512, 160), (255, 85), (95, 32)])
def test_a_passage_of_the_window_is_pasted_later(seq_len: int, longest: int) -> None:
    plain, tasks = windows(None, 300, seq_len), windows(REPEATS, 300, seq_len)
    sizes, distances = [], []
    for text, row in zip(plain, tasks, strict=True):
        (pasted,) = np.nonzero(row != text)
        start, size = pasted[0], len(pasted)
        assert np.array_equal(pasted, start + np.arange(size))
        source = row[start] - text[0]  # tokens tell their position
        assert np.array_equal(row[pasted], text[source : source + size])
        assert source >= 0 and source + size <= start
        sizes.append(size)
        distances.append(start - source)
    assert min(sizes) >= 32 and max(sizes) <= longest
    assert max(sizes) - min(sizes) >= 0.9 * (longest - 32)
    assert min(distances) < 0.35 * seq_len and max(distances) > 0.6 * seq_len


# --- strings and splices --------------------------------------------------------------------


@pytest.mark.parametrize("seq_len", [512, 40, 15])
def test_a_random_string_comes_twice_or_more(seq_len: int) -> None:
    plain, tasks = windows(None, 300, seq_len), windows(STRINGS, 300, seq_len)
    sizes, copies = set(), set()
    for text, row in zip(plain[1:], tasks[1:], strict=True):
        written = (row != text) & (row < 128)
        whole = bytes(np.where(written, row, 32).astype(np.uint8))
        # The string: what comes again and again; the shortest piece that explains all of it.
        pieces = [piece for piece in whole.split(b" ") if piece]
        size = min(map(len, pieces))
        size = next(
            n
            for n in range(8, size + 1)
            if all(
                len(piece) % n == 0 and piece == pieces[0][:n] * (len(piece) // n)
                for piece in pieces
            )
        )
        assert re.fullmatch(rb"[a-z0-9]+", pieces[0]) and size <= (seq_len + 1) // 2
        sizes.add(size)
        copies.add(written.sum() // size)
    assert min(copies) == 2 and min(sizes) == 8
    assert max(copies) > (seq_len + 1) // 32 and max(sizes) >= 0.9 * ((seq_len + 1) // 2)


def test_a_spliced_window_begins_like_its_neighbour() -> None:
    plain, tasks = windows(None, 300), windows(SPLICES, 300)
    cuts = []
    for text, other, row in zip(plain, np.roll(plain, -1, axis=0), tasks, strict=True):
        cut = int((row != text).sum())
        assert np.array_equal(row, np.concatenate([other[:cut], text[cut:]]))
        cuts.append(cut)
    assert 32 <= min(cuts) < 60 and 450 < max(cuts) <= 513 - 32


# --- the mixture ----------------------------------------------------------------------------


@pytest.mark.parametrize(("passkey", "repeats"), [(0.2, 0.3), (0.05, 0.0), (0.5, 0.5)])
def test_shares_are_those_asked_for(passkey: float, repeats: float) -> None:
    mixture, n = mixture_of(passkey=passkey, repeats=repeats), 8000
    rows = np.concatenate([windows(mixture, 1000, step=step) for step in range(8)])
    plain = np.concatenate([windows(None, 1000, step=step) for step in range(8)])
    changed = (rows != plain).any(axis=1)
    # Only a statement can hold a token below 256 in a window that starts above.
    keys = (rows < 256).any(axis=1) & (plain[:, 0] >= 256)
    for share, count in ((passkey, keys.sum()), (passkey + repeats, changed.sum())):
        assert abs(count - n * share) <= 4 * np.sqrt(n * share * (1 - share)) + n * 0.003


def test_a_window_hangs_on_seed_step_and_rank_alone() -> None:
    mixture = mixture_of(passkey=0.25, strings=0.25, repeats=0.25, splices=0.25)
    shape = {"tokens": TOKENS, "seq_len": 256, "batch_size": 4, "mixture": mixture}
    places = list(itertools.product((0, 2**40), (0, 10**6), (0, 7)))
    forwards = [batch(*place, **shape)[0].tobytes() for place in places]
    assert forwards == [batch(*place, **shape)[0].tobytes() for place in reversed(places)][::-1]
    assert len(set(forwards)) == len(places)


def test_mixed_batches_are_the_same_in_every_release() -> None:
    mixture = mixture_of(passkey=0.2, strings=0.2, repeats=0.2, splices=0.2)
    digest = hashlib.sha256()
    for step in range(10):
        digest.update(windows(mixture, 16, step=step).astype("<i8").tobytes())
    assert digest.hexdigest()[:16] == "d5f6524792eabdd1"


def test_without_shares_batches_are_the_plain_ones() -> None:
    assert np.array_equal(windows(mixture_of(), 64), windows(None, 64))


# --- in the data module ---------------------------------------------------------------------


@pytest.fixture
def text_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROPEWALK_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "text.txt"
    file.write_text("".join(f"{i:05}" for i in range(2000)))
    return file


def module(file: Path, **settings: object) -> TextDataModule:
    return TextDataModule("text", str(file), **{"seq_len": 128, "batch_size": 4, **settings})


def test_the_loader_mixes_and_validation_is_plain(text_file: Path) -> None:
    mixed, plain = module(text_file, passkey=0.5, repeats=0.25), module(text_file)
    loader = mixed.train_dataloader()
    inputs, targets = next(iter(loader))
    shape = {"tokens": mixed.train_tokens, "seq_len": 128, "batch_size": 4}
    expected = batch(0, 0, mixture=mixture_of(passkey=0.5, repeats=0.25), **shape)
    assert np.array_equal(inputs, expected[0]) and np.array_equal(targets, expected[1])
    assert not np.array_equal(inputs, batch(0, 0, **shape)[0])
    for one, other in zip(mixed.val_dataloader(), plain.val_dataloader(), strict=True):
        assert one[0].equal(other[0]) and one[1].equal(other[1])


def test_the_fingerprint_holds_the_shares(text_file: Path) -> None:
    mixed, plain = module(text_file, passkey=0.5), module(text_file)
    mixed.prepare()
    plain.prepare()
    assert mixed.fingerprint == plain.fingerprint | {"passkey": 0.5}
    assert plain.mixture is None


def test_a_vocabulary_that_cannot_write_the_task_is_refused(text_file: Path) -> None:
    with pytest.raises(ValueError) as error:
        module(text_file, tokenizer="char", passkey=0.1).prepare()
    assert "data.tokenizer=char: has no token for ' []a" in str(error.value)
    module(text_file, tokenizer="char", repeats=0.1).prepare()  # a passage can always be pasted


def test_any_vocabulary_that_can_will_do() -> None:
    text = " [the key of abcdefghijklmnopqrstuvwxyz is 0123456789] "
    tokenizer = CharTokenizer(text + "Ω")
    ids = character_ids(tokenizer)
    assert tokenizer.decode(ids[np.frombuffer(text.encode(), dtype=np.uint8)]) == text


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"passkey": -0.1}, "data.passkey=-0.1: must be a number from 0 to 1"),
        ({"repeats": float("nan")}, "data.repeats=nan: must be a number"),
        ({"passkey": True}, "data.passkey=True: must be a number"),
        ({"repeats": "much"}, "data.repeats=much: must be a number"),
        ({"passkey": 0.6, "repeats": 0.5}, "data.passkey=0.6, data.repeats=0.5: are shares"),
        ({"passkey": 0.1, "seq_len": 56}, "data.seq_len=56: must be at least 57 with data.passkey"),
        ({"strings": 0.4, "splices": 0.7}, "data.strings=0.4, data.splices=0.7: are shares"),
        ({"strings": 0.1, "seq_len": 14}, "data.seq_len=14: must be at least 15 with data.strings"),
        ({"splices": 0.1, "seq_len": 62}, "data.seq_len=62: must be at least 63 with data.splices"),
        ({"repeats": 0.1, "seq_len": 94}, "data.seq_len=94: must be at least 95 with data.repeats"),
        ({"splices": 0.1, "batch_size": 1}, "data.splices=0.1: begins windows with others of"),
    ],
)
def test_shares_that_are_refused(settings: dict, said: str) -> None:
    with pytest.raises(ValueError) as error:
        TextDataModule(**settings)
    assert str(error.value).startswith(said) and len(str(error.value).splitlines()) == 1
    TextDataModule(seq_len=95, passkey=0.25, strings=0.25, repeats=0.25, splices=0.25)


def test_the_order_of_the_keys_changes_nothing() -> None:
    one, other = mixture_of(passkey=0.3, splices=0.3), mixture_of(splices=0.3, passkey=0.3)
    assert np.array_equal(windows(one, 64), windows(other, 64))


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("passkeys", "data.passkeys: there is no such key; did you mean data.passkey?"),
        ("seq_length", "data.seq_length: there is no such key; did you mean data.seq_len?"),
    ],
)
def test_a_key_that_is_no_task_is_refused(key: str, said: str) -> None:
    with pytest.raises(ValueError) as error:
        TextDataModule(**{key: 0.1})
    assert str(error.value) == said


def test_without_the_extras_their_keys_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.settings.KINDS", {})
    with pytest.raises(ValueError, match=r"data\.passkey: there is no such key.*`import extras`"):
        TextDataModule(passkey=0.1)
