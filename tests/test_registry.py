"""Names, signatures and the messages about them."""

from types import ModuleType

import pytest

from kdframe import registry
from kdframe.registry import DISTILLERS, Registry, UnknownPart


@pytest.fixture
def parts() -> Registry:
    parts = Registry("distillers", ("student", "teacher", "batch"), ("student", "teacher"))
    parts._filled = True  # nothing of kdframe's own
    return parts


def test_a_taken_name_is_refused_and_both_places_are_named(parts) -> None:
    @parts.register("mine")
    def one(student, teacher, batch, *, scale: float = 1.0):
        pass

    with pytest.raises(ValueError, match=r"'mine' twice: .*one \(.*test_registry.*two \("):

        @parts.register("mine")
        def two(student, teacher, batch):
            pass


def test_an_option_without_a_plain_default_is_a_type_error(parts) -> None:
    with pytest.raises(TypeError, match=r"bad .*option scale needs a plain default"):

        @parts.register("bad")
        def bad(student, teacher, batch, *, scale):
            pass

    with pytest.raises(TypeError, match="not None"):

        @parts.register("bad")
        def worse(student, teacher, batch, *, scale=None):
            pass


def test_options_stand_behind_the_star(parts) -> None:
    with pytest.raises(TypeError, match="has 4 positional arguments"):

        @parts.register("bad")
        def bad(student, teacher, batch, scale=1.0):
            pass

    with pytest.raises(TypeError, match="hides its options"):

        @parts.register("bad")
        def worse(student, teacher, batch, **options):
            pass


def test_options_are_read_off_the_signature(parts) -> None:
    @parts.register("mine", needs=("views",))
    class Mine:
        def __init__(self, student, teacher, *, stages: tuple[int, ...] = (1, 2), p: int = 2):
            pass

    assert parts.options("mine") == {"stages": (1, 2), "p": 2}
    assert parts.hints("mine") == {"stages": tuple[int, ...], "p": int}
    assert parts.needs("mine") == ("views",)


@pytest.mark.parametrize(
    ("needs", "answer"),
    [
        (("views", "nonsense"), "outside .*: needs takes preactivations, .*, not nonsense\\.$"),
        ("views", "outside .*: needs takes a tuple of words, not 'views'\\.$"),
        (("labels",), "outside .*: it needs labels, and has no set_labels\\.$"),
    ],
)
def test_needs_that_cannot_be_met_are_a_type_error(parts, needs, answer) -> None:
    with pytest.raises(TypeError, match=answer):
        parts.register("mine", needs=needs)(outside)


def test_annotations_imported_for_typing_only_are_understood(parts) -> None:
    def alone(student, teacher, batch, *, p: int = 2):
        pass

    alone.__annotations__ = {"teacher": "Output | None", "p": "int"}
    parts.register("alone")(alone)
    parts.register("outside")(outside)
    assert parts.does_without("alone", "teacher") and parts.hints("alone")["p"] is int
    assert not parts.does_without("outside", "teacher")


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownPart, match=r"distillers has no 'dkdd'. Did you mean dkd\?"):
        DISTILLERS["dkdd"]


class Entry:
    """What importlib.metadata gives for an installed package's part."""

    def __init__(self, name: str, module: ModuleType, attribute: str) -> None:
        self.name, self.module, self.attribute = name, module.__name__, attribute
        self.value, self.loads, self.source = f"{module.__name__}:{attribute}", 0, module

    def load(self):
        self.loads += 1
        return getattr(self.source, self.attribute)


def outside(student, teacher, batch, *, scale: float = 2.0):
    return scale


def test_an_entry_point_is_loaded_only_when_its_name_is_asked_for(parts, monkeypatch) -> None:
    import sys

    entry = Entry("outside", sys.modules[__name__], "outside")
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])
    assert "outside" in parts and list(parts) == ["outside"] and entry.loads == 0
    assert parts["outside"] is outside and parts["outside"] is outside and entry.loads == 1
    assert parts.options("outside") == {"scale": 2.0}


def test_an_entry_point_of_a_taken_name_is_refused(parts, monkeypatch) -> None:
    import math

    parts.register("sqrt")(outside)
    monkeypatch.setattr(registry, "entry_points", lambda group: [Entry("sqrt", math, "sqrt")])
    with pytest.raises(ValueError, match=r"'sqrt' twice: .*outside.* the entry point math:sqrt"):
        parts["sqrt"]
