from typing import Literal

import pytest

from kdframe.values import ConfigError, Key, fit, kind_of, shown, take, unknown


@pytest.mark.parametrize(
    ("value", "kind", "held"),
    [
        (3, float, 3.0),
        ("1e-3", float, 0.001),
        ([], tuple[int, ...], ()),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([[1, 2], [3, 4]], tuple[tuple[int, int], ...], ((1, 2), (3, 4))),
        ([1, "1e-3"], tuple[float, ...], (1.0, 0.001)),
        ([[1], "a"], tuple, ((1,), "a")),
        ("a", Literal["a", "b"], "a"),
        ([1], float | tuple[int, ...], (1,)),
    ],
)
def test_a_value_is_held_as_its_key_says(value, kind, held) -> None:
    found = fit(value, kind)
    assert (found, type(found)) == (held, type(held))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, int),
        (True, float),
        (1, bool),
        (1.0, int),
        ("1", int),
        (5, str),
        (None, str),
        (float("nan"), float),
        (10**400, float),
        ("inf", float),
        ("many", float),
        ("ab", tuple[str, ...]),
        ([True], tuple[int, ...]),
        ([[1, 2, 3]], tuple[tuple[int, int], ...]),
        ([None], tuple),
        ([{}], tuple),
        (1, Literal[True]),
        ({"a": 1}, float | int),
    ],
)
def test_a_value_of_another_kind_is_refused(value, kind) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        fit(value, kind)


def test_an_option_takes_what_its_annotation_says_else_what_its_default_is() -> None:
    assert kind_of(float, 4) is float
    assert kind_of(None, 4) is int
    assert kind_of(None, (1, 2)) == tuple[int, ...]
    assert kind_of(None, ()) is tuple
    assert kind_of(dict, "a") is str
    assert kind_of(float | None, 1.0) is float


@pytest.mark.parametrize(
    ("value", "key", "sentence"),
    [
        ("many", Key(1, int, " of at least 1"), "takes an int, not 'many'."),
        (0, Key(1, int, " of at least 1", lambda v: v > 0), "takes an int of at least 1, not 0."),
        ("nan", Key(1, float, " above 0"), "takes a finite number above 0, not nan."),
        (None, Key("", str), "takes a string, not null."),
        ([1], Key((), tuple[tuple[int, int], ...]), "(each element [an int, an int]), not [1]."),
        ("stpes", Key("", Literal["steps", "cosine"]), "not 'stpes'. Did you mean steps?"),
    ],
)
def test_a_wrong_value_is_answered_with_what_its_key_takes(value, key, sentence) -> None:
    with pytest.raises(ConfigError) as error:
        take("x.yaml", "A.B", value, key)
    assert str(error.value).startswith("x.yaml: A.B takes ")
    assert str(error.value).endswith(sentence)


def test_a_long_value_is_shortened_to_one_line() -> None:
    assert shown("a\n" * 100) == repr("a\n" * 100)[:57] + "..."


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("LR", " Did you mean SOLVER.LR?"),
        ("SOLVER.TEMPERATURE", " Did you mean LOSS.kd.TEMPERATURE?"),
        ("LOSS.kd.TEMPRATURE", " Did you mean LOSS.kd.TEMPERATURE?"),
        ("SOVLER", " Did you mean SOLVER?"),
        ("STUDENT.name", " Did you mean STUDENT.NAME?"),
        ("SOLVER.XYZZY", ""),
    ],
)
def test_a_wrong_key_is_answered_with_the_nearest(name, near) -> None:
    known = ["SOLVER", "SOLVER.LR", "LOSS.kd.TEMPERATURE", "TEACHER.NAME", "STUDENT.NAME", name]
    assert str(unknown("x.yaml", name, known)) == f"x.yaml: there is no {name}.{near}"
