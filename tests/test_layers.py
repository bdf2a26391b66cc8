import os
from pathlib import Path

import pytest

from kdframe.layers import from_file, from_words, overlay
from kdframe.values import ConfigError


def written(folder, text, name="x.yaml"):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(path) -> str:
    with pytest.raises(ConfigError) as error:
        from_file(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_words_of_yaml_that_are_names_stay_names(tmp_path) -> None:
    text = "A: [off, no, on, yes, 2026-01-01, '1']\nB: [true, FALSE, null, 1, .5, 1.0e-3]\n"
    (layer,) = from_file(written(tmp_path, text))
    assert layer.data["A"] == ["off", "no", "on", "yes", "2026-01-01", "1"]
    assert layer.data["B"] == [True, False, None, 1, 0.5, 0.001]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A: 1\nB: [1, 2\n", "line 3: expected ',' or ']'"),
        ("A: 1\nA: 2\n", "line 2: A stands here twice."),
        ("A: {B: 1,\n  B: 2}\n", "line 2: B stands here twice."),
        ("A: 1\nB: !!python/object/apply:os.system [ls]\n", "line 2: anchors, aliases and tags"),
        ("A: !!float 1\n", "line 1: anchors, aliases and tags are not allowed."),
        ("A: &a [1]\nB: 2\n", "line 1: anchors, aliases and tags are not allowed."),
        ("A: *a\n", "line 1: anchors, aliases and tags are not allowed."),
        ("<<: {A: 1}\n", "line 1: a key is a word"),
        ("1: 2\n", "line 1: a key is a word of letters, digits, _, / and -, not '1'."),
        ("? [1]\n: 2\n", "line 1: a key is a word"),
        ("SOLVER.LR: 2\n", "line 1: a key is a word"),
        ("A: 1\n---\nB: 1\n", "line 2: "),
        ("- 1\n", "a config is a mapping of keys, not [1]."),
        ("A: " + 30 * "[" + 30 * "]", "line 1: it nests too deep."),
        ("A: " + 10**5 * "[", "line 1: it nests too deep."),
        ("A:\n  B: " + 5000 * "9", "line 2: Exceeds the limit"),
        ("A: 1\n" + "B:\n" + 20_000 * "  - 1\n", "a config has at most 20,000 keys and values."),
        ("A: 1\nB: \x00", "line 2: the character #x0000 can't stand in YAML."),
        (b"A: 1\nB: \xff", "line 2: it can't be read as UTF-8 (invalid start byte)."),
        ("#" * 2**20 + "\n", "a config is at most 1 MiB."),
    ],
)
def test_what_is_no_plain_mapping_is_refused_with_its_line(tmp_path, text, reason) -> None:
    path = written(tmp_path, text)
    message = refusal(path)
    assert message.startswith(f"{path}: ")
    assert reason in message


def test_a_missing_file_is_answered_with_the_nearest(tmp_path) -> None:
    written(tmp_path, "A: 1", "teacher.yaml")
    missing = tmp_path / "techer.yaml"
    assert refusal(missing) == f"there is no file {missing}. Did you mean teacher.yaml?"


def test_only_yaml_files_are_read(tmp_path) -> None:
    ran = tmp_path / "ran"
    path = written(tmp_path, f"open({str(ran)!r}, 'w')", "x.py")
    assert "is no .yaml file" in refusal(path)
    assert not ran.exists()
    (tmp_path / "folder.yaml").mkdir()
    assert refusal(tmp_path / "folder.yaml").endswith("folder.yaml is a folder, not a file.")


def test_bases_come_first_and_are_named_as_they_are_reached(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "A: 1\nB: 1", "base.yaml")
    written(tmp_path, "_BASE_: ../base.yaml\nB: 2", "sub/x.yaml")
    layers = from_file(
        written(tmp_path, "_BASE_: sub/x.yaml\nC: 3", "y.yaml").relative_to(tmp_path)
    )
    assert [layer.source for layer in layers] == ["sub/../base.yaml", "sub/x.yaml", "y.yaml"]
    assert [layer.data for layer in layers] == [{"A": 1, "B": 1}, {"B": 2}, {"C": 3}]


@pytest.mark.parametrize("base", ["/etc/x.yaml", "https://a.b/x.yaml", "[x.yaml]", "null"])
def test_a_base_is_a_relative_path(tmp_path, base) -> None:
    message = refusal(written(tmp_path, f"_BASE_: {base}"))
    assert "_BASE_ takes a path relative to this file, not " in message


def test_bases_in_a_circle_are_refused(tmp_path) -> None:
    a, b = (
        written(tmp_path, "_BASE_: b.yaml", "a.yaml"),
        written(tmp_path, "_BASE_: a.yaml", "b.yaml"),
    )
    assert refusal(a) == f"{b}: _BASE_: {a} leads back to itself."


def test_eight_files_may_stand_in_a_chain_and_nine_may_not(tmp_path) -> None:
    for i in range(1, 9):
        written(tmp_path, f"_BASE_: {i - 1}.yaml", f"{i}.yaml")
    written(tmp_path, "A: 1", "0.yaml")
    assert len(from_file(tmp_path / "7.yaml")) == 8
    assert "is number 9 in a chain of at most 8" in refusal(tmp_path / "8.yaml")


def test_settings_come_as_two_words_or_as_one() -> None:
    words = ["SOLVER.LR", "1e-3", "DATASET.ROOT", "a=b", "LOSS.kd={WEIGHT: .5}", "LOSS.kd.P", "[1]"]
    words += ["LOSS.at", "null", "OUTPUT_DIR=", "SOLVER.LR=2", "STUDENT.NAME=a=b"]
    (layer,) = from_words(words)
    assert layer.data == {
        "SOLVER": {"LR": 2},
        "DATASET": {"ROOT": "a=b"},
        "LOSS": {"kd": {"WEIGHT": 0.5, "P": [1]}, "at": None},
        "OUTPUT_DIR": "",
        "STUDENT": {"NAME": "a=b"},
    }


@pytest.mark.parametrize("again", ["LOSS.kd.WEIGHT=2", "LOSS.kd={}", "LOSS={kd: {WEIGHT: 2}}"])
def test_what_words_drop_and_bring_back_was_dropped(again) -> None:
    first, second = from_words(["LOSS.at={}", "LOSS.kd=null", again])
    assert first.data == {"LOSS": {"at": {}, "kd": None}} and "kd" in second.data["LOSS"]
    assert len(from_words([again, "LOSS.kd=null", "LOSS.at={}"])) == 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["SEED", "1", "SOLVER.LR"], "SOLVER.LR has no value."),
        (["lr", "1"], "'lr' is no key"),
        (["5"], "'5' is no key"),
        (["SOLVER..LR=1"], "'SOLVER..LR=1' is no key"),
        (["_BASE_", "x.yaml"], "'_BASE_' is no key"),
        (["SOLVER.STEPS", "[1,"], "SOLVER.STEPS: line 1: "),
    ],
)
def test_a_wrong_word_is_named(words, reason) -> None:
    with pytest.raises(ConfigError) as error:
        from_words(words)
    assert str(error.value).startswith(f"command line: {reason}")


def test_a_setting_is_known_by_who_made_it_last() -> None:
    tree, sources = {"LOSS": {}}, {}
    overlay(tree, {"LOSS": {"kd": {"T": 1, "W": 1}, "at": {"W": 1}}}, "a", sources)
    overlay(tree, {"LOSS": {"kd": {"T": 2}, "at": None}}, "b", sources)
    assert tree == {"LOSS": {"kd": {"T": 2, "W": 1}, "at": None}}
    kd = {"LOSS.kd": "a", "LOSS.kd.T": "b", "LOSS.kd.W": "a"}
    assert sources == {"LOSS": "a", "LOSS.at": "b", **kd}
    overlay(tree, {"LOSS": {"at": {}}}, "c", sources)
    assert tree["LOSS"]["at"] == {}
    assert sources["LOSS.at"] == "c"


def test_numbers_are_what_they_look_like(tmp_path) -> None:
    """YAML 1.1 reads an octal number and a time of day; here they are words."""
    text = "A: [10, -3, 1_000, 0x10, 010, 1:30, 0o7, 1e3, .5, 1., -.inf, 1.5e-3]"
    (layer,) = from_file(written(tmp_path, text))
    assert layer.data["A"] == [
        10, -3, 1000, 16, "010", "1:30", "0o7", "1e3", 0.5, 1.0, float("-inf"), 0.0015,
    ]  # fmt: skip


def test_every_key_has_its_line(tmp_path) -> None:
    text = "A: 1\n\nB:\n  C: {D: 1,\n    E: 2}\n"
    (layer,) = from_file(written(tmp_path, text))
    assert layer.lines == {"A": 1, "B": 3, "B.C": 4, "B.C.D": 4, "B.C.E": 5}


def test_a_base_stands_in_the_configs_own_tree(tmp_path, monkeypatch) -> None:
    """The working folder if the config is in there, the nearest folder named configs, its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work").mkdir()
    (tmp_path / "lab").mkdir()
    outside = written(tmp_path, "A: 1", "outside.yaml")
    inner = written(tmp_path / "work", "_BASE_: ../../outside.yaml", "sub/x.yaml")
    assert len(from_file(inner)) == 2
    monkeypatch.chdir(tmp_path / "work")
    message = refusal(inner)
    assert "_BASE_: ../../outside.yaml is outside of " in message
    assert message.endswith("a config stands on files of its own tree alone. (line 1)")
    (inner.parent / "link.yaml").symlink_to(outside)
    inner.write_text("_BASE_: link.yaml")
    assert "link.yaml is outside of " in refusal(inner)
    far = written(tmp_path / "lab", "A: 1", "configs/base.yaml")
    deep = written(far.parent, "_BASE_: ../base.yaml", "deep/x.yaml")
    assert len(from_file(deep)) == 2
    deep.write_text("_BASE_: ../../base.yaml")
    written(tmp_path / "lab", "A: 1", "base.yaml")
    assert "is outside of " in refusal(deep)


def test_a_pipe_a_device_and_a_circle_of_links_are_no_files(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    assert refusal(tmp_path / "pipe.yaml").endswith("pipe.yaml is a device or a pipe, not a file.")
    assert refusal(tmp_path / "zero.yaml").endswith("zero.yaml is a device or a pipe, not a file.")
    assert "there is no file" in refusal(tmp_path / "loop.yaml")
    assert "is an address; only files are read." in refusal(Path("http://a.b/x.yaml"))
