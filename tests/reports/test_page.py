"""The page as text: what is on it, how large it is, and that it needs nothing else."""

import errno
import os
import re
from html.parser import HTMLParser

import pytest

from kdframe.reports import page, runs
from kdframe.reports.detail import grouped

VOID = {"meta", "link", "img", "br", "input"}


class Balanced(HTMLParser):
    """Fails where a tag isn't closed; SVG's own empty tags close themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        pass

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def study(make_study, tmp_path):
    return make_study(tmp_path / "study", ["alpha", "beta"], 2, ["ant", "bee"])


def test_every_tag_is_closed_and_every_number_is_one(study) -> None:
    text = page.html(study)
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    for broken in ("nan", "None", "inf", "built-in", "undefined"):
        markup = re.sub(r"<(script|style)>.*?</\1>", "", text, flags=re.DOTALL)
        assert not re.search(rf"[\"\s:,>]{broken}[\"\s,<]", markup), broken


def test_it_names_no_address_outside(study) -> None:
    text = page.html(study)
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]*", text)
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert "default-src 'none'" in text


def test_it_says_what_was_run(study) -> None:
    text = page.html(study)
    assert "tools/train_net.py --config-file x.yaml SEED 1" in text
    assert "/home/me" not in text
    assert "abababababab" in text
    assert "<dt>torch</dt><dd>2.10</dd>" in text
    assert "L = cross_entropy + kd" in text


def test_a_term_that_does_nothing_is_at_the_top(study) -> None:
    text = page.html(study)
    warning = "kd makes up 0.5 % of the gradient: it does nearly nothing (step 5)."
    assert 0 < text.index(warning) < text.index('id="results"')


def test_a_warning_of_the_first_step_that_the_last_look_has_not_is_left_out(study) -> None:
    for row in study.rows:
        for run in row.runs:
            run.analysis["gradients"][-1]["warnings"] = {}
    assert "nearly nothing" not in page.html(study)


def test_runs_that_are_not_done_are_reported(study, write_run, tmp_path) -> None:
    for seed, state in ((2, "running"), (3, "failed")):
        write_run(tmp_path / f"study/beta/s{seed}", seed, 60.0, state=state, error="no room")
        (tmp_path / f"study/beta/s{seed}/results.json").unlink()
    text = page.html(runs.read(tmp_path / "study"))
    assert "<b>beta, seed 2</b> not finished (running: no room)." in text
    assert "<b>beta, seed 3</b> not finished (failed: no room)." in text
    assert "2 of 4" in text


def test_a_study_in_which_nothing_is_done_has_a_page(write_run, tmp_path) -> None:
    write_run(tmp_path / "alpha/s0", 0, 60.0, state="running")
    (tmp_path / "alpha/s0/results.json").unlink()
    (tmp_path / "alpha/s0/metrics.jsonl").unlink()
    text = page.html(runs.read(tmp_path))
    assert "No run is finished yet." in text


def test_without_an_analysis_the_files_are_shown(write_run, tmp_path) -> None:
    write_run(tmp_path / "run", 0, 60.0)
    text = page.html(runs.read(tmp_path / "run"))
    assert "60.00 % of the test images, +10.00 points over the student alone" in text
    assert 'id="likeness"' not in text and 'id="curves"' in text


def test_a_page_takes_the_place_of_the_one_before(study, tmp_path) -> None:
    first = page.write(study, [], tmp_path / "pages")
    again = page.write(study, [], tmp_path / "pages")
    assert first == again and [p.name for p in first.parent.iterdir()] == ["report.html"]


def test_a_page_without_room_is_named_and_leaves_nothing(study, tmp_path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("kdframe.writing.os.fsync", full)
    with pytest.raises(OSError) as caught:
        page.write(study, [], tmp_path / "pages")
    assert caught.value.filename == str(tmp_path / "pages/report.html")
    assert list((tmp_path / "pages").iterdir()) == []


@pytest.mark.parametrize("name", ["report.html", ".report.html.tmp"])
def test_a_page_is_not_written_through_a_link(study, tmp_path, name) -> None:
    (tmp_path / "mine").write_text("thesis")
    (tmp_path / name).symlink_to("mine")
    page.write(study, [], tmp_path)
    assert (tmp_path / "mine").read_text() == "thesis"


@pytest.mark.parametrize(
    ("rows", "seeds", "classes", "epochs"), [(30, 3, 100, 240), (3, 1, 300, 30)]
)
def test_a_large_study_stays_below_a_megabyte(
    make_study, tmp_path, rows, seeds, classes, epochs
) -> None:
    """30 methods on CIFAR-100 in the literature's 240 epochs."""
    names = [f"method_number_{i}" for i in range(rows)]
    labels = [f"a class called {i}" for i in range(classes)]
    study = make_study(tmp_path / "study", names, seeds, labels, epochs)
    path = page.write(study, [], tmp_path)
    assert path.stat().st_size < 1_000_000
    assert path.read_text().count("<summary>") == rows


def test_groups_of_classes_are_named_by_their_ends() -> None:
    names = [str(i) for i in range(10)]
    assert grouped(names, 10) == names
    assert grouped(names, 3) == ["0 \u2026 2", "3 \u2026 5", "6 \u2026 9"]
    assert grouped(grouped(names, 5), 2) == ["0 \u2026 3", "4 \u2026 9"]
