"""From a config to its terms: stages that pair unlike networks, and those that aren't there."""

from pathlib import Path

import pytest
import torch
import yaml

from kdframe import build, build_loss, exit_codes
from kdframe.backbones import Backbone, Output
from kdframe.config import Config, ConfigError, load
from kdframe.registry import DISTILLERS

NETWORKS = (
    "DATASET: {NAME: glyphs, TRAIN: 36, TEST: 36}\n"
    "STUDENT: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 2}\n"  # stages 0 to 3: 32, 32, 16, 8 pixels
    "TEACHER: {NAME: resnet10t, WEIGHTS: random}\n"  # stages 0 to 4: 16, 8, 4, 2, 1 pixels
)


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> tuple[Backbone, Backbone]:
    config = written(tmp_path_factory.mktemp("networks"), "LOSS: {at: {}}\n")
    student, teacher = (
        build.build_backbone(config, branch, 36, (3, 32, 32)) for branch in ("STUDENT", "TEACHER")
    )
    assert [shape[1] for shape in student.shapes] == [32, 32, 16, 8]
    assert [shape[1] for shape in teacher.shapes] == [16, 8, 4, 2, 1]
    return student, teacher


def labels() -> torch.Tensor:
    return torch.arange(36)


def written(folder: Path, loss: str, alone: bool = False) -> Config:
    path = folder / "c.yaml"
    lines = NETWORKS.splitlines(keepends=True)
    path.write_text("".join(lines[:2] if alone else lines) + loss)
    return load(path)


def test_a_pair_of_stages_loads_as_a_pair_and_dumps_and_loads_to_itself(tmp_path) -> None:
    config = written(tmp_path, "LOSS: {at: {STAGES: [[1, 2]]}, at/other: {STAGES: [2, [3, -1]]}}\n")
    again = tmp_path / "again.yaml"
    again.write_text(config.dump())
    for tree in (config.tree, load(again).tree):
        assert tree.LOSS.at.STAGES == ((1, 2),)
        assert tree.LOSS["at/other"].STAGES == (2, (3, -1))
    assert yaml.safe_load(config.dump())["LOSS"]["at"]["STAGES"] == [[1, 2]]
    assert load(again).digest() == config.digest()


def test_a_pair_compares_the_students_stage_with_the_teachers(tmp_path, networks) -> None:
    config = written(tmp_path, "LOSS: {at: {STAGES: [[1, 2]]}}\n")
    (term,) = build_loss.build_terms(config, networks[0], networks[1:], labels)
    student, teacher = (network.probe() for network in networks)
    cut = [
        Output(o.logits, o.embedding, [o.features[0], o.features[stage]])
        for o, stage in ((student, 1), (teacher, 2))
    ]
    expected = DISTILLERS["at"](*cut, None, stages=(1,))
    torch.testing.assert_close(term.loss(student, teacher, None), expected)


@pytest.mark.parametrize(
    ("loss", "answer"),
    [
        ("at: {STAGES: [[9, 2]]}", "at.STAGES: STUDENT: no stage [9]: this network has 0 to 3"),
        ("at: {STAGES: [[1, 9]]}", "at.STAGES: TEACHER: no stage [9]: this network has 0 to 4"),
        ("at: {STAGES: [1, 4]}", "at.STAGES: STUDENT: no stage [4]: this network has 0 to 3"),
        ("at: {STAGES: [[4, 4]]}", "at.STAGES: STUDENT: no stage [4]: this network has 0 to 3"),
        ("at: {STAGES: [[3, -6]]}", "at.STAGES: TEACHER: no stage [-6]: this network has 0 to 4"),
        ("fitnet: {STAGE: 4}", "fitnet.STAGE: STUDENT: no stage [4]: this network has 0 to 3"),
        ("feature/a: {STAGES: [7]}", "feature/a.STAGES: STUDENT: no stage [7]: this network has"),
        ("afd: {STUDENT_STAGES: [4]}", "afd.STUDENT_STAGES: STUDENT: no stage [4]: this network"),
        ("semckd: {TEACHER_STAGES: [5]}", "semckd.TEACHER_STAGES: TEACHER: no stage [5]: this"),
    ],
)
def test_a_stage_that_a_network_lacks_is_refused_with_file_key_and_network(
    tmp_path, networks, loss, answer
) -> None:
    config = written(tmp_path, f"LOSS: {{{loss}}}\n")
    with pytest.raises(ConfigError) as caught:
        build_loss.build_terms(config, networks[0], networks[1:], labels)
    assert str(caught.value).startswith(f"{config.path}: LOSS.{answer}")


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("STUDENT.DEPTH=9", "STUDENT.DEPTH: depth takes 6n + 2 ("),
        (
            "STUDENT={NAME: vit_tiny_patch16_224}",
            "STUDENT: vit_tiny_patch16_224 can't take images of (3, 32, 32) (IMAGE_SIZE builds it "
            "for them): Input height",
        ),
    ],
)
def test_a_network_that_cannot_be_is_blamed_on_who_set_it(tmp_path, word, answer) -> None:
    written(tmp_path, "LOSS: {at: {}}\n")
    with pytest.raises(ConfigError) as caught:
        build.build_backbone(load(tmp_path / "c.yaml", [word]), "STUDENT", 36, (3, 32, 32))
    assert str(caught.value).startswith(f"command line: {answer}")


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            "kd: {TEMPERATURE: 0}",
            "LOSS.kd.TEMPERATURE: temperature takes a number above 0, not",
        ),
        ("dkd: {BETA: -1}", "LOSS.dkd.BETA: beta takes a number from 0, not -1.0."),
        ("at: {VARIANT: codes}", "LOSS.at.VARIANT: variant takes code or paper, not 'codes'."),
        ("semckd: {BATCH_SIZE: 2}", "LOSS.semckd.BATCH_SIZE: "),
        ("simkd: {}, simkd/again: {}", "LOSS: only one of simkd and simkd/again can make"),
    ],
)
def test_an_option_that_cannot_be_is_refused_while_the_run_is_built(
    tmp_path, networks, loss, message
) -> None:
    config = written(tmp_path, f"LOSS: {{{loss}}}\n")
    with pytest.raises(ConfigError) as caught:
        build_loss.build_terms(config, networks[0], networks[1:], labels)
    assert str(caught.value).startswith(f"{config.path}: {message}")


@pytest.mark.parametrize(
    ("loss", "answer"),
    [
        (lambda s, t, b: s.logits, "a term returns a scalar tensor, not one of (4, 36)."),
        (lambda s, t, b: 1.0, "a term returns a scalar tensor, not 1.0."),
    ],
)
def test_a_term_that_returns_no_scalar_is_refused_while_the_run_is_built(
    tmp_path, networks, monkeypatch, loss, answer
) -> None:
    config = written(tmp_path, "LOSS: {logit_mse: {}}\n")
    monkeypatch.setitem(DISTILLERS._parts, "logit_mse", loss)
    with pytest.raises(ConfigError) as caught:
        build_loss.build_terms(config, networks[0], networks[1:], labels)
    assert str(caught.value) == f"{config.path}: LOSS.logit_mse: {answer} (line 4)"


def test_a_term_that_keeps_something_is_refused_where_the_teacher_learns_too(
    tmp_path, networks
) -> None:
    path = written(tmp_path, "LOSS: {dml: {}, feature: {}}\n").path
    with pytest.raises(
        ConfigError, match=r"LOSS\.feature: it learns or keeps .* makes two\. \(line 4\)$"
    ):
        build.build_terms(load(path, ["TEACHER.TRAIN=true"]), networks[0], networks[1:], labels)


def test_a_fault_of_a_term_is_told_with_file_and_key(
    tmp_path, networks, monkeypatch, capsys
) -> None:
    config = written(tmp_path, "LOSS: {logit_mse: {}}\n")
    monkeypatch.setitem(DISTILLERS._parts, "logit_mse", lambda s, t, b: s.logit)
    code = exit_codes.answered(
        lambda: build_loss.build_terms(config, networks[0], networks[1:], labels) and None
    )
    assert code == 1
    assert capsys.readouterr().err == (
        "error: AttributeError: 'Output' object has no attribute 'logit' "
        f"({config.path}: LOSS.logit_mse; a fault of kdframe or of a part; --debug shows where)\n"
    )


def test_a_batch_of_one_cannot_be_compared_and_is_refused_while_the_run_is_built(
    tmp_path, networks
) -> None:
    config = written(tmp_path, "LOSS: {rkd: {}}\nSOLVER: {BATCH_SIZE: 4, ACCUMULATE: 4}\n")
    with pytest.raises(ConfigError, match=r"LOSS\.rkd: .* a batch takes 2 at least, not 1"):
        build_loss.build_terms(config, networks[0], networks[1:], labels)


def test_a_stage_of_the_student_alone_need_not_be_the_teachers(tmp_path, networks) -> None:
    student, teacher = networks[::-1]
    assert len(student.shapes) > len(teacher.shapes)
    config = written(tmp_path, "LOSS: {ofa_stages: {STAGES: [4]}}\n")
    assert build_loss.build_terms(config, student, [teacher], labels)


@pytest.mark.parametrize("stages", ["[[1, 2]]", "[1, [3, 4], [-1, -1], [-4, -5]]", "[]"])
def test_a_stage_that_the_other_network_lacks_may_stand_in_a_pair(
    tmp_path, networks, stages
) -> None:
    config = written(tmp_path, f"LOSS: {{at: {{STAGES: {stages}}}}}\n")
    build_loss.check_stages(
        config, "at", build_loss.options_of(DISTILLERS, "at", config.tree.LOSS.at), *networks
    )


@pytest.mark.parametrize(
    ("pairs", "answer"),
    [
        (((1, 2), (2, 4)), "STUDENT: no stage [4]: this network has 0 to 3"),
        (((-5, 1),), "STUDENT: no stage [-5]: this network has 0 to 3"),
        (((1, 2), (2, 3)), None),
        ((), None),
    ],
)
def test_pairs_are_two_stages_of_each_network(tmp_path, networks, pairs, answer) -> None:
    config = written(tmp_path, "LOSS: {at: {}}\n")
    if answer is None:
        build_loss.check_stages(config, "fsp", {"pairs": pairs}, *networks)
        return
    with pytest.raises(ConfigError, match=r"LOSS\.fsp\.PAIRS") as caught:
        build_loss.check_stages(config, "fsp", {"pairs": pairs}, *networks)
    assert answer in str(caught.value)


def test_without_a_teacher_only_the_students_stages_are_looked_at(tmp_path, networks) -> None:
    config = written(tmp_path, "LOSS: {cross_entropy: {}}\n", alone=True)
    build_loss.check_stages(config, "x", {"stages": ((1, 99),)}, networks[0], None)
    with pytest.raises(ConfigError, match=r"STUDENT: no stage \[99\]"):
        build_loss.check_stages(config, "x", {"stages": ((99, 1),)}, networks[0], None)


@pytest.mark.parametrize(
    ("loss", "read"),
    [
        ("kd: {}", [False]),
        ("embedding_cosine: {}", [False]),
        ("at: {STAGES: [1]}", [True]),
        ("kd: {}, feature: {STAGES: [1]}, dist: {}", [False, True, False]),
        ("fitnet: {STAGE: 1}", [True]),
    ],
)
def test_a_term_is_seen_to_read_the_teachers_maps(tmp_path, networks, loss, read) -> None:
    config = written(tmp_path, f"LOSS: {{{loss}}}\n")
    terms = build_loss.build_terms(config, networks[0], networks[1:], labels)
    assert [term.reads_maps for term in terms] == read


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (["cat"], "it lacks (dog)"),
        (["cat", "cow", "dog"], "it has (cow) besides"),
        (["dog", "cat"], "their order is (dog, cat), and train's (cat, dog)"),
    ],
)
def test_where_two_lists_of_classes_part_is_told(other, words) -> None:
    assert build.difference(["cat", "dog"], other) == words


@pytest.mark.parametrize("branch", ["TEACHER", "STUDENT"])
def test_published_weights_for_other_numbers_are_not_a_teacher(tmp_path, caplog, branch) -> None:
    config = written(tmp_path, "LOSS: {kd: {}}\nSOLVER: {BATCH_SIZE: 8}\n")
    network = build.build_backbone(config, "TEACHER", 36, (3, 32, 32))
    network.pretrained = network.network.state_dict
    data = build.build_data(config, torch.device("cpu"))
    about = {key: list(network.network.pretrained_cfg[key]) for key in ("mean", "std")}
    build.load_weights(config, branch, network, "pretrained", data._replace(about=about))
    assert not caplog.messages
    other = data._replace(about=about | {"std": [0.5, 0.5, 0.5]})
    if branch == "STUDENT":
        build.load_weights(config, branch, network, "pretrained", other)
        assert "published weights expect std" in caplog.text
    else:
        with pytest.raises(ConfigError, match=r"TEACHER.WEIGHTS: .* expect std .* glyphs has"):
            build.load_weights(config, branch, network, "pretrained", other)
