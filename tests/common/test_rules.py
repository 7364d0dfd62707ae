"""The one loop over rules, and what is said of a name that there is not."""

import math

import pytest

from common.rules import (
    BOOLEAN,
    Rule,
    above,
    among,
    at_least,
    even,
    group_of,
    integer,
    list_of,
    nearest,
    number,
    one_of,
    optional,
    problems,
    refuse,
    text,
)

NAMES = one_of(("full", "window", "full-nope"), "full")
RULES = {
    "integer from 1 to 8": (integer(1, 8, 4), [1, 8], [0, 9, 1.0, True, "1", None]),
    "integer of at least 2": (at_least(2, 4), [2, 10**9], [1, math.inf, True]),
    "even integer": (even(2, 8, 4), [2, 8], [3, 0, 10, "2"]),
    "number from 0 to 1": (number(0, 1, 0.5), [0, 1, 0.5], [-0.1, 1.1, math.nan, True, "0"]),
    "above 0": (above(0, 0.1), [1, 1e-9], [0, -1, math.inf, math.nan, None]),
    "true or false": (BOOLEAN, [True, False], [0, 1, "true", None]),
    "text": (text("runs/mine"), ["x"], ["", "  ", None, 3]),
    "one of full, window": (NAMES, ["full"], ["fulll", None, ["full"], 3]),
    "null or one of": (optional(NAMES), [None, "full"], ["", []]),
    "list of one or more": (
        list_of(NAMES),
        [["full"], ("window", "full")],
        [[], "full", [3], None],
    ),
}


@pytest.mark.parametrize("said", RULES)
def test_a_rule_says_what_it_holds_and_its_example_keeps_it(said: str) -> None:
    rule, right, wrong = RULES[said]
    assert said in rule.text
    for value in right:
        assert problems({"key": value}, {"key": rule}) == []
    for value in wrong:
        (line,) = problems({"key": value}, {"key": rule}, "group.")
        assert line.startswith("group.key=") and f": must be {rule.text}; try group.key=" in line
        works = rule.works(value)
        assert rule.holds(works) or (rule is BOOLEAN and works == "true")


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (None, "key=null: must be one of full, window, full-nope; try key=full"),
        ("windwo", "key=windwo: must be one of full, window, full-nope; try key=window"),
        (["full"], "key=[full]: must be one of full, window, full-nope; try key=full"),
    ],
)
def test_values_are_shown_as_they_are_typed(value: object, line: str) -> None:
    assert problems({"key": value}, {"key": NAMES}) == [line]


@pytest.mark.parametrize(
    ("value", "works"),
    [
        (["full", "windwo"], "[full,window]"),
        (["ful", "full"], "[full]"),
        ("windows", "[window]"),
        ([], "[full]"),
    ],
)
def test_a_list_that_works_keeps_what_was_right(value: object, works: str) -> None:
    (line,) = problems({"key": value}, {"key": list_of(NAMES)})
    assert line.endswith(f"try key={works}")


def test_one_loop_asks_what_is_there_in_the_order_of_the_rules() -> None:
    rules: dict[str, Rule] = {"b": BOOLEAN, "a": at_least(1, 2), "c": BOOLEAN}
    lines = problems({"a": 0, "b": 3, "unruled": None}, rules)
    assert [line.partition(":")[0] for line in lines] == ["b=3", "a=0"]
    refuse([])
    with pytest.raises(ValueError) as error:
        refuse(lines)
    assert str(error.value).splitlines() == lines


def test_the_nearest_name() -> None:
    keys = ("model.d_model", "optimizer.lr", "seed")
    assert nearest("lr", keys) == "optimizer.lr"
    assert nearest("model.d_modle", keys) == "model.d_model"
    assert nearest("something", keys) is nearest(7, keys) is None
    assert among("sed", keys, "x.") == "did you mean x.seed?"
    assert among("something", ("a", "b")) == "there is a, b"


def test_a_group_gives_what_it_knows_and_a_line_for_the_rest() -> None:
    config = {"rope": {"theta": 5, "thet": 6}, "model": 3}
    known, lines = group_of(config, "rope", ["theta", "fraction"])
    assert known == {"theta": 5}
    assert lines == ["rope.thet: there is no such key; did you mean rope.theta?"]
    assert group_of(config, "absent", ["theta"]) == ({}, [])
    _, lines = group_of(config, "model", ["theta"])
    assert lines == ["model=3: must be a group of settings; leave it out"]
