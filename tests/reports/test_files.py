"""The pictures as files: all of them, whatever the classes are called."""

import csv
import xml.etree.ElementTree as ET

import pytest
from PIL import Image

from kdframe.reports import files

KINDS = ("cka", "classes", "correlation", "gradients", "reliability", "terms")


@pytest.fixture
def study(make_study, tmp_path, evil):
    names = ["$\\frac{1$", evil, "\u732b", "_"]
    study = make_study(tmp_path / "study", ["a_$b", "c"], 2, names)
    study.rows[1].label = "$x^"
    return study


def test_every_picture_is_there_twice_and_can_be_read(study, tmp_path) -> None:
    """Names with TeX, markup and scripts in them are names."""
    paths = files.write(study, [], tmp_path / "report")
    names = {path.name for path in paths}
    rows = {f"{kind}_{row}" for kind in KINDS for row in ("a--b", "c")}
    assert {path.stem for path in paths if path.suffix == ".png"} == {"curves", "costs", *rows}
    assert names == {p.name for p in (tmp_path / "report").iterdir()}
    for path in paths:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert min(image.size) > 150
        elif path.suffix == ".svg":
            assert ET.parse(path).getroot().tag.endswith("svg")


def test_gains_are_a_table_for_other_programs(study, tmp_path, evil) -> None:
    files.write(study, [], tmp_path)
    rows = list(csv.reader((tmp_path / "classes.csv").read_text("utf-8").splitlines()))
    assert rows[0] == ["row", "class", "gain"]
    assert len(rows) == 1 + 2 * 4
    assert {row[1] for row in rows[1:]} >= {evil, "\u732b"}


def test_the_same_runs_give_the_same_bytes(make_study, tmp_path) -> None:
    study = make_study(tmp_path / "study", ["a"], 1, ["x", "y"])
    first, again = (files.write(study, [], tmp_path / name) for name in ("first", "again"))
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_nothing_is_written_through_a_link(make_study, tmp_path) -> None:
    study = make_study(tmp_path / "study", ["a"], 1, ["x", "y"])
    names = [path.name for path in files.write(study, [], tmp_path / "first")]
    (tmp_path / "mine").write_text("thesis")
    (tmp_path / "again").mkdir()
    for name in names:
        (tmp_path / "again" / name).symlink_to("../mine")
    files.write(study, [], tmp_path / "again")
    assert (tmp_path / "mine").read_text() == "thesis"
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
