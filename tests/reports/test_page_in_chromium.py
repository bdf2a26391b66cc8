"""The page as a reader has it: it draws, sorts and answers, on a desk, on a phone and on paper."""

import base64
import re

import pytest

from kdframe.reports import page

CLASSES = ["ant", "bee", "cat"]


@pytest.fixture
def opened(tab, make_study, tmp_path):
    study = make_study(tmp_path / "study", ["alpha", "beta", "gamma"], 2, CLASSES)
    path = page.write(study, [], tmp_path)
    tab.open(path)
    return tab


def column(tab, table: str, number: int) -> list[str]:
    return tab.run(
        f"[...document.querySelectorAll('#{table} tbody tr')].map(r => r.cells[{number}].innerText)"
    )


def test_it_draws_without_a_complaint_and_without_a_network(opened) -> None:
    assert opened.run("document.title") == "study \u00b7 kdframe"
    assert opened.run("document.querySelectorAll('svg').length") > 10
    assert opened.run("[...document.images].every(i => i.naturalWidth === 3)") is True
    assert opened.complaints() == []


def test_every_line_lies_in_its_chart(opened) -> None:
    """Nothing is NaN or outside of the viewBox."""
    boxes = opened.run(
        "[...document.querySelectorAll('svg :is(.line, .band, circle, rect, .gap, .accuracy)')]"
        ".filter("
        "e => { const b = e.getBBox(), v = e.ownerSVGElement.viewBox.baseVal; return !(b.x >= -1 &&"
        "b.y >= -1 && b.x + b.width <= v.width + 1 && b.y + b.height <= v.height + 1) })"
        ".map(e => e.outerHTML)"
    )
    assert boxes == []


def test_a_click_sorts_and_another_turns(opened) -> None:
    before = column(opened, "results-table", 0)
    head = "document.querySelectorAll('#results-table thead th')[2]"
    opened.run(f"{head}.querySelector('button').click()")
    assert opened.run(f"{head}.getAttribute('aria-sort')") == "descending"
    down = [float(text.split()[0]) for text in column(opened, "results-table", 2)]
    assert down == sorted(down, reverse=True) and len(set(down)) == 5
    opened.run(f"{head}.querySelector('button').click()")
    assert opened.run(f"{head}.getAttribute('aria-sort')") == "ascending"
    up = [float(text.split()[0]) for text in column(opened, "results-table", 2)]
    assert up == down[::-1]
    assert sorted(column(opened, "results-table", 0)) == sorted(before)


def test_a_key_sorts_too_and_one_column_at_a_time(opened) -> None:
    opened.run("document.querySelector('#results-table thead button').focus()")
    opened.press("Enter")
    names = column(opened, "results-table", 0)
    assert [name.strip() for name in names] == sorted(name.strip() for name in names)
    opened.run("document.querySelectorAll('#results-table thead button')[2].click()")
    states = opened.run(
        "[...document.querySelectorAll('#results-table th[aria-sort]')]"
        ".map(h => h.getAttribute('aria-sort')).filter(s => s !== 'none')"
    )
    assert states == ["descending"]


def test_an_empty_cell_stays_at_the_end(opened) -> None:
    titles = opened.run(
        "[...document.querySelectorAll('#results-table thead th')].map(h => h.innerText.trim())"
    )
    gain = next(i for i, title in enumerate(titles) if title.startswith("gain"))
    for _ in range(2):
        opened.run(f"document.querySelectorAll('#results-table thead button')[{gain}].click()")
        cells = column(opened, "results-table", gain)
        assert all(cells[:3]) and not any(cells[3:])


def test_a_curve_says_its_values_under_the_pointer(opened) -> None:
    """alpha has 60 and 61 % after epoch 5 of 5."""
    opened.move("#curves svg.lines", x=0.97)
    said = opened.run("document.getElementById('tip').innerText")
    assert said.startswith("epoch 5\n")
    assert re.search(r"^alpha 60\.5 \u00b1 0\.71$", said, re.MULTILINE)
    assert said.index("gamma") < said.index("beta") < said.index("alpha")
    opened.move("h1")
    assert opened.run("document.getElementById('tip').hidden") is True


def test_a_curve_answers_to_keys(opened) -> None:
    opened.run("document.querySelector('#curves svg.lines').focus()")
    opened.press("ArrowLeft")
    assert opened.run("document.getElementById('tip').innerText").startswith("epoch 4\n")
    opened.press("Home")
    assert opened.run("document.getElementById('tip').innerText").startswith("epoch 1\n")
    opened.press("Escape")
    assert opened.run("document.getElementById('tip').hidden") is True


def test_points_bars_bins_and_cells_say_what_they_are(opened) -> None:
    for selector, said in (
        ("#costs .mark", "top-1|%\n"),
        ("details .bar", "points"),
        ("details .bin", "confidence"),
        ("details .cell", "CKA 0.900"),
        ("details .stack i", "of the gradient"),
    ):
        opened.move(selector)
        text = opened.run("document.getElementById('tip').innerText")
        assert re.search(said, text), (selector, text)


def test_a_map_says_two_classes_and_their_value(opened) -> None:
    opened.move("[data-map]", x=0.1, y=0.9)
    said = opened.run("document.getElementById('tip').innerText")
    assert re.fullmatch(r"cat with ant\n[+\u2212]0\.\d\d", said)


def test_a_name_hides_its_row(opened) -> None:
    opened.run("document.querySelector('.legend button').click()")
    assert (
        opened.run(
            "getComputedStyle(document.querySelector('#curves .line[data-series=alpha]')).display"
        )
        == "none"
    )
    opened.move("#curves svg.lines", x=0.97)
    assert "alpha" not in opened.run("document.getElementById('tip').innerText")


def test_a_phone_never_scrolls_sideways(tab, make_study, tmp_path) -> None:
    names = ["alpha", "a_row_with_a_very_long_name_" + 60 * "x"]
    study = make_study(tmp_path / "study", names, 2, [*CLASSES, "w" * 80])
    tab.open(page.write(study, [], tmp_path), width=375, height=800)
    tab.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert tab.run("document.documentElement.scrollWidth") == 375
    assert tab.run("innerWidth") == 375


def test_names_from_strangers_are_text(tab, make_study, tmp_path, evil) -> None:
    """In classes, labels and commands; and nothing that isn't the page's own script could run."""
    study = make_study(tmp_path / "study", ["alpha"], 2, [evil, "'\"&<b>", "</script>"])
    study.name = study.rows[0].label = evil
    for run in study.rows[0].runs:
        run.about["command"] = [evil]
        run.notes.append(evil)
        run.epochs = [{**row, f"train/{evil}": 1.0} for row in run.epochs]
    path = page.write(study, [], tmp_path)
    tab.open(path)
    tab.move("[data-map]", x=0.1, y=0.1)
    assert tab.run("window.stolen") is None
    assert evil in tab.run("document.getElementById('tip').innerText")
    assert tab.run("document.querySelectorAll('script').length") == 2
    assert tab.run("document.querySelectorAll('b').length") == path.read_text().count("<b>")
    assert tab.run("document.querySelector('h1').innerText") == evil
    assert tab.complaints() == []


def test_on_paper_everything_is_open(opened) -> None:
    assert opened.run("document.querySelectorAll('details:not([open])').length") == 2
    paper = base64.b64decode(opened.ask("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert paper.startswith(b"%PDF") and len(paper) > 50_000
    opened.run("dispatchEvent(new Event('beforeprint'))")
    assert opened.run("document.querySelectorAll('details:not([open])').length") == 0
    opened.run("dispatchEvent(new Event('afterprint'))")
    assert opened.run("document.querySelectorAll('details:not([open])').length") == 2


def test_it_is_dark_where_the_reader_wants_it_dark(opened) -> None:
    colours = set()
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        opened.ask("Emulation.setEmulatedMedia", features=[feature])
        colours.add(opened.run("getComputedStyle(document.body).backgroundColor"))
    assert len(colours) == 2
