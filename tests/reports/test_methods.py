"""The page of every distiller, and what a docstring becomes on it."""

import re

import pytest
from torch import Tensor, nn

from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.registry import DISTILLERS
from kdframe.reports import methods


@pytest.fixture(autouse=True)
def own_parts(monkeypatch) -> None:
    """Parts that a test registers go with it."""
    list(DISTILLERS)
    monkeypatch.setattr(DISTILLERS, "_parts", dict(DISTILLERS._parts))
    monkeypatch.setattr(DISTILLERS, "_needs", dict(DISTILLERS._needs))


def test_every_method_has_a_row_and_a_section_with_its_options() -> None:
    page = methods.page()
    for name in DISTILLERS:
        assert len(re.findall(rf"^\| \[{name}\]\(#{name}\) \|", page, re.MULTILINE)) == 1
        _, section = page.split(f"\n## {name}\n")
        section = section.partition("\n## ")[0]
        for option in DISTILLERS.options(name):
            assert f"| `{option.upper()}` | `" in section
        assert (
            f"(../kdframe/distillers/{methods.DISTILLERS[name].__module__.split('.')[2]}.py)"
            in section
        )


def test_someone_elses_part_is_no_part_of_the_page() -> None:
    before = methods.page()

    @DISTILLERS.register("theirs")
    def theirs(student: Output, teacher: Output, batch: Batch) -> Tensor:
        """Theirs."""
        return student.logits.sum()

    assert methods.page() == before


def test_the_words_of_needs_come_from_registration_signature_and_class() -> None:
    @DISTILLERS.register("everything", needs=("labels", "views"))
    class Everything(nn.Module):
        """All at once."""

        def __init__(self, student: Backbone, teacher: Backbone | None) -> None:
            super().__init__()
            self.learned = nn.Linear(student.channels_of((3,))[0], 2)

        def forward(self, student: Output, teacher: Output | None, batch: Batch) -> Tensor:
            return student.logits.sum()

        def set_labels(self, labels: Tensor) -> None: ...
        def prepare(self, batches) -> None: ...
        def deployed(self, student: Backbone) -> Backbone:
            return student

    assert list(methods.needs("everything")) == [
        "labels",
        "views",
        "no teacher",
        "learned",
        "prepare",
        "deployed",
    ]


def test_a_module_that_learns_nothing_isnt_called_learned_and_one_may_want_other_networks() -> None:
    @DISTILLERS.register("keeps")
    class Keeps(nn.Module):
        """Keeps."""

        def __init__(self, student: Backbone, teacher: Backbone) -> None:
            super().__init__()
            self.fixed = nn.Linear(2, 2).requires_grad_(False)

        def forward(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
            return student.logits.sum()

    @DISTILLERS.register("choosy")
    class Choosy(Keeps):
        def __init__(self, student: Backbone, teacher: Backbone) -> None:
            raise ValueError("ViTs only")

    assert methods.needs("keeps") == {}
    assert methods.needs("choosy") == {"other networks": "ViTs only"}


@pytest.mark.parametrize(
    ("line", "cited"),
    [
        (
            "Soft labels: Hinton and Dean 2015, arXiv:1503.02531, section 2 (from memory).",
            "Hinton and Dean 2015, [arXiv:1503.02531](https://arxiv.org/abs/1503.02531)",
        ),
        (
            "The labels; smoothed as in Szegedy et al. 2016, arXiv:1512.00567.",
            "smoothed as in Szegedy et al. 2016, [arXiv:1512.00567](https://arxiv.org/abs/1512.00567)",
        ),
        (
            "Flow: Yim et al. 2017, CVPR 2017, equation 1 (from memory).",
            "Yim et al. 2017, CVPR 2017",
        ),
        ("Flow: Yim et al. 2017, CVPR 2017 (from memory).", "Yim et al. 2017, CVPR 2017"),
        ("Flow: Yim et al. 2017, CVPR 2017.", "Yim et al. 2017, CVPR 2017"),
        ("Nobody knows.", "Nobody knows."),
    ],
)
def test_a_source_is_cited_by_who_when_and_where(line, cited) -> None:
    assert methods.cited(line) == cited


def test_an_equation_becomes_code_as_it_stands_and_raises_a_list() -> None:
    docstring = """What it does.

    L = a * b
      + c_d

    G = <x> of ``size``

At T > 0 and w_i * x < 2,
> ``a|b``. And _c_ of `d`: arXiv:1503.02531.

Raises:
    ValueError: this,
        and that.
    TypeError: other."""
    assert (
        methods.as_markdown(docstring)
        == r"""What it does.

```
L = a * b
  + c_d

G = <x> of size
```

At T > 0 and w_i \* x \< 2,
\> `a|b`. And \_c_ of \`d\`: [arXiv:1503.02531](https://arxiv.org/abs/1503.02531).

Raises:

- ValueError: this, and that.
- TypeError: other."""
    )


def test_a_bar_in_a_tables_cell_is_no_new_cell() -> None:
    assert methods.row("a", "|b|") == r"| a | \|b\| |"
