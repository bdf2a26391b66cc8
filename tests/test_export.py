"""A student that leaves home: every format is loaded as its user will, and must answer the same."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from kdframe import checkpoint, exit_codes, finished, shipping
from kdframe.commands import export as command
from kdframe.formats import onnx as onnx_format
from kdframe.formats import safetensors
from kdframe.formats.base import Student
from kdframe.formats.timm import architecture
from kdframe.registry import BACKBONES

ROOT = Path(__file__).parents[1]
BASE = """
DATASET: {NAME: glyphs, TRAIN: 180, TEST: 110, VAL: 36, AUGMENT: crop_flip}
SOLVER: {OPTIMIZER: adamw, LR: 0.01, EPOCHS: 2, BATCH_SIZE: 36}
HOOKS: {tensorboard: null, curves: null, complexity: null}
LOSS: {cross_entropy: {}}
"""
SMALL = "{NAME: cifar_resnet, DEPTH: 8, WIDTH: 4, STRIDE: 2}"
STUDENTS = {
    "plain": f"STUDENT: {SMALL}\nSOLVER: {{EMA: 0.5}}",
    "simkd": f"STUDENT: {SMALL}\nTEACHER: {{NAME: resnet8, WEIGHTS: random}}\n"
    "LOSS: {cross_entropy: null, simkd: {FACTOR: 4}}",
    "papers": "STUDENT: {NAME: resnet20}\nDATASET: {VAL: 0}\nSOLVER: {EPOCHS: 1}",
    "timm": "STUDENT: {NAME: vit_tiny_patch16_224, IMAGE_SIZE: 32, PATCH_SIZE: 16}\n"
    "SOLVER: {EPOCHS: 1}",
    "stem": "STUDENT: {NAME: resnet18, SMALL_INPUT: true}\nSOLVER: {EPOCHS: 1}",
}


@pytest.fixture(scope="module")
def where(tmp_path_factory) -> Path:
    where = tmp_path_factory.mktemp("runs")
    (where / "base.yaml").write_text(BASE)
    for name, text in STUDENTS.items():
        (where / f"{name}.yaml").write_text(f"_BASE_: base.yaml\n{text}\n")
    return where


@pytest.fixture
def runs(where, monkeypatch):
    """Trains a student the first time that it is asked for, and returns its folder."""
    monkeypatch.chdir(where)

    def folder(name: str) -> Path:
        if not Path(name).exists():
            script = str(ROOT / "tools/train_net.py")
            words = [script, "--config-file", f"{name}.yaml", "OUTPUT_DIR", name]
            done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        return Path(name)

    return folder


@pytest.fixture
def call(capsys):
    """The command's exit code, and what it prints."""

    def call(*words: object) -> tuple[int, str, str]:
        code = exit_codes.answered(lambda: command.main([str(word) for word in words]))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def images(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 images of the test split, and the logits of the run's own network for them."""
    run = finished.read(folder)
    image = next(run.test.raw([torch.arange(9)], -1))[0]
    with torch.no_grad():
        return image, run.student(run.test.normalised(image)).logits


@pytest.mark.parametrize("name", ["plain", "simkd"])
def test_every_graph_answers_as_the_run_s_network_to_pixels_of_0_to_1(
    runs, call, tmp_path, name
) -> None:
    code, out, err = call(
        runs(name), "--format", "safetensors", "onnx", "torch_export", "--output", tmp_path / "x"
    )
    assert code == 0, err
    assert "onnx         " in out and "named otherwise" in out
    image, logits = images(Path(name))
    unit = image.float() / 255
    session = onnxruntime.InferenceSession(tmp_path / "x/model.onnx")
    (found,) = session.run(None, {"image": unit.numpy()})
    np.testing.assert_allclose(found, logits.numpy(), atol=1e-5)
    graph = torch.export.load(tmp_path / "x/model.pt2").module()
    torch.testing.assert_close(graph(unit), logits)
    student, about = safetensors.load(tmp_path / "x")
    normalised = (unit - torch.tensor(about["mean"]).view(3, 1, 1)) / about["std"][0]
    torch.testing.assert_close(student(normalised).logits, logits)


def test_what_simkd_deploys_has_the_teacher_s_classifier_and_no_teacher(runs, tmp_path) -> None:
    shipping.ship(runs("simkd"), ["safetensors"], tmp_path / "x", say=lambda text: None)
    tensors, about = checkpoint.load_weights(tmp_path / "x/model.safetensors")
    assert {name.partition(".")[0] for name in tensors} == {"student", "projector", "classifier"}
    assert about["network"]["term"] == {"name": "simkd", "options": {"factor": 4}}


def test_a_graph_that_finds_no_room_leaves_nothing(runs, tmp_path) -> None:
    """torch's own writer would end the process."""
    tool = str(ROOT / "tools/export_model.py")
    words = ["sh", "-c", 'ulimit -f 40; exec "$@"', "sh", sys.executable, tool]
    words += [str(runs("plain")), "--format", "torch_export", "--output", str(tmp_path / "e")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 4 and done.stderr.count("\n") == 1
    assert done.stderr.endswith("model.pt2: File too large\n") and not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [1, 3, 64])
def test_the_batch_of_a_graph_is_of_any_size(runs, tmp_path, size) -> None:
    if not Path("any").exists():
        shipping.ship(runs("plain"), ["onnx", "torch_export"], Path("any"), say=lambda text: None)
    image = torch.rand(size, 3, 32, 32)
    session = onnxruntime.InferenceSession("any/model.onnx")
    assert session.run(None, {"image": image.numpy()})[0].shape == (size, 36)
    assert torch.export.load("any/model.pt2").module()(image).shape == (size, 36)


@pytest.mark.parametrize("kind", ["uint8", "normalised"])
def test_a_graph_takes_pixels_or_normalised_images_where_that_is_asked(
    runs, call, tmp_path, kind
) -> None:
    words = ("--input", kind, "--output", tmp_path / "x")
    code, _, err = call(runs("plain"), "--format", "onnx", *words)
    assert code == 0, err
    image, logits = images(Path("plain"))
    given = image if kind == "uint8" else (image.float() / 255 - 0.5) / 0.25
    session = onnxruntime.InferenceSession(tmp_path / "x/model.onnx")
    (found,) = session.run(None, {"image": given.numpy()})
    np.testing.assert_allclose(found, logits.numpy(), atol=1e-5)
    assert kind in json.loads((tmp_path / "x/about.json").read_text())["input"].values()


def test_timm_alone_rebuilds_its_own_network_with_the_same_answers(runs, call, tmp_path) -> None:
    code, _, err = call(runs("timm"), "--format", "timm", "--output", tmp_path / "x")
    assert code == 0, err
    image, logits = images(Path("timm"))
    torch.save((image.float() / 255 - 0.5) / 0.25, tmp_path / "image.pt")
    script = (
        "import sys, timm, torch\n"
        "m = timm.create_model('local-dir:x', pretrained=True).eval()\n"
        "assert not [name for name in sys.modules if name.startswith('kdframe')]\n"
        "c = timm.data.resolve_model_data_config(m)\n"
        "print(c['mean'], c['std'], c['input_size'], m.pretrained_cfg['label_names'][35])\n"
        "torch.save(m(torch.load('image.pt', weights_only=True)).detach(), 'logits.pt')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[0.5, 0.5, 0.5] [0.25, 0.25, 0.25] (3, 32, 32) Z\n"
    torch.testing.assert_close(torch.load(tmp_path / "logits.pt", weights_only=True), logits)


def test_timm_knows_a_network_by_its_name_without_the_tag_of_weights() -> None:
    options = {"model": "resnet18.a1_in1k"}
    about = {"network": {"student": {"name": "timm", "options": options}}}
    assert architecture(Student(BACKBONES["timm"](10, **options), about)) == "resnet18"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("papers", "resnet20 is kdframe's network"),
        ("plain", "cifar_resnet is kdframe's network"),
        ("simkd", "what simkd deploys"),
        ("stem", "timm builds resnet18 with conv1.weight of (64, 3, 7, 7)"),
    ],
)
def test_what_timm_cannot_build_is_refused_in_one_line_and_leaves_nothing(
    runs, call, tmp_path, name, why
) -> None:
    code, _, err = call(runs(name), "--format", "onnx", "timm", "--output", tmp_path / "x")
    assert code == 2 and err.startswith(f"error: --format timm: {why}") and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_small_stem_is_exported_by_a_format_that_can_hold_it(runs, tmp_path) -> None:
    checks = shipping.ship(runs("stem"), ["torch_export"], tmp_path / "x", say=lambda text: None)
    assert checks["torch_export"].other == 0


def test_last_and_best_weights_are_told_apart(runs, call, tmp_path) -> None:
    for weights, file in finished.FILES.items():
        place = tmp_path / weights
        code, _, err = call(
            runs("plain"), "--format", "safetensors", "--weights", weights, "--output", place
        )
        assert code == 0, err
        mine, about = checkpoint.load_weights(place / "model.safetensors")
        theirs, _ = checkpoint.load_weights(Path("plain") / file)
        assert about["weights"] == weights and mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
        mark = "**this student, last weights: these files**"
        assert (mark in (place / "README.md").read_text()) == (weights == "last")


def test_without_validation_there_is_no_best(runs, call, tmp_path) -> None:
    code, _, err = call(runs("papers"), "--format", "onnx", "--weights", "best")
    assert code == 2
    assert err == "error: papers holds no student_best.safetensors: it has no validation split.\n"


def test_a_file_that_answers_otherwise_is_refused_and_removed(
    runs, call, tmp_path, monkeypatch
) -> None:
    write = onnx_format.write

    def tampered(student, folder) -> None:
        write(student, folder)
        model = onnx.load(folder / "model.onnx")
        weight = next(w for w in model.graph.initializer if len(w.dims) == 4)
        values = onnx.numpy_helper.to_array(weight) * np.float32(1.1)
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        onnx.save(model, folder / "model.onnx")

    monkeypatch.setattr(onnx_format, "write", tampered)
    code, _, err = call(runs("plain"), "--format", "onnx", "--output", tmp_path / "x")
    assert code == 1 and "model.onnx differs from the network by " in err
    assert list(tmp_path.iterdir()) == []


def test_weights_that_no_longer_reach_the_run_s_accuracy_are_refused(runs, call, tmp_path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("run.json", "config.yaml", "student.safetensors"):
        (folder / name).write_bytes((runs("plain") / name).read_bytes())
    results = json.loads(Path("plain/results.json").read_text())
    results["test"]["top1"] += 9.0
    (folder / "results.json").write_text(json.dumps(results))
    code, _, err = call(folder, "--format", "safetensors")
    assert code == 2 and "is the split what it was?" in err and not (folder / "export").exists()


def test_a_search_s_trial_is_refused(runs, call, tmp_path) -> None:
    for name in ("run.json", "config.yaml"):
        (tmp_path / name).write_bytes((runs("plain") / name).read_bytes())
    results = json.loads(Path("plain/results.json").read_text())
    untested = {key: value for key, value in results.items() if not key.startswith("test")}
    (tmp_path / "results.json").write_text(json.dumps(untested))
    code, _, err = call(tmp_path, "--format", "safetensors")
    assert code == 2 and "never read the test split: train the search's best.yaml" in err


def test_a_folder_without_a_run_and_one_that_is_not_done_are_refused(runs, call, tmp_path) -> None:
    code, _, err = call(tmp_path / "none", "--format", "onnx")
    assert (code, err) == (2, f"error: OUTPUT_DIR: {tmp_path}/none isn't there.\n")
    assert call(tmp_path, "--format", "onnx")[2] == f"error: OUTPUT_DIR: {tmp_path} holds no run.\n"
    (tmp_path / "latest").symlink_to(runs("plain").absolute())
    assert call(tmp_path, "--format", "onnx")[2].endswith(f"Did you mean {tmp_path}/latest?\n")
    about = json.loads(Path("plain/run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**about, "state": "running"}))
    code, _, err = call(tmp_path, "--format", "onnx")
    assert code == 2 and "is running, not done: wait for it" in err and err.count("\n") == 1


def test_an_export_is_not_overwritten_unless_that_is_said_and_foreign_files_never(
    runs, call, tmp_path
) -> None:
    words = (runs("plain"), "--format", "safetensors", "--output", tmp_path / "x")
    assert call(*words)[0] == 0
    before = (tmp_path / "x/README.md").stat().st_ino
    code, _, err = call(*words)
    assert code == 2 and "--force replaces it" in err
    assert (tmp_path / "x/README.md").stat().st_ino == before
    assert call(*words, "--force")[0] == 0
    assert (tmp_path / "x/README.md").stat().st_ino != before
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    (tmp_path / "y").mkdir()
    (tmp_path / "y/thesis.tex").write_text("")
    code, _, err = call(*words[:-1], tmp_path / "y", "--force")
    assert code == 2 and "aren't an export" in err and (tmp_path / "y/thesis.tex").exists()
    assert (
        call(*words[:-1], ".")[2] == "error: --output: . holds the working folder, which can't "
        "be replaced.\n"
    )


def test_a_missing_package_is_one_line_that_says_how_to_get_it(runs, call, monkeypatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "onnx" else find(n))
    code, _, err = call(runs("plain"), "--format", "onnx")
    assert (code, err) == (2, "error: --format onnx needs onnx: pip install 'kdframe[export]'.\n")


def test_the_card_and_the_files_say_what_an_engineer_needs(runs, call, tmp_path) -> None:
    names = ("onnx", "torch_export", "safetensors")
    assert call(runs("simkd"), "--format", *names, "--output", tmp_path / "x")[0] == 0
    card = (tmp_path / "x/README.md").read_text()
    run = json.loads(Path("simkd/run.json").read_text())
    test = json.loads(Path("simkd/results.json").read_text())["test"]
    for part in (
        run["config"], f"{test['top1']:.2f}", "L = simkd(factor=4)", "mean = (0.5, 0.5, 0.5)",
        "--config-file simkd.yaml", "model.onnx", "simkd's projector", '["0", "1", "2"',
    ):  # fmt: skip
        assert part in card
    model = onnx.load(tmp_path / "x/model.onnx")
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(said["classes"])[10] == "A" and said["config"] == run["config"]
    extra = {"about.json": ""}
    torch.export.load(tmp_path / "x/model.pt2", extra_files=extra)
    assert json.loads(extra["about.json"])["std"] == [0.25, 0.25, 0.25]
    config = (tmp_path / "x/recipe.yaml").read_text()
    assert config == Path("simkd/config.yaml").read_text()


def test_the_lines_of_the_card_work_as_they_stand(runs, call, tmp_path) -> None:
    names = ("onnx", "torch_export", "safetensors")
    assert call(runs("plain"), "--format", *names, "--output", tmp_path / "DIR")[0] == 0
    card = (tmp_path / "DIR/README.md").read_text()
    blocks = [block.partition("```")[0] for block in card.split("```python\n")[1:]]
    assert len(blocks) == 3
    script = "import torch\nimage = torch.rand(2, 3, 32, 32)\n"
    for block in blocks:
        given = "image = image.numpy()\n" if "onnx" in block else ""
        lines = f"{script}{given}{block}\nassert logits.shape == (2, 36)\n"
        done = subprocess.run(
            [sys.executable, "-c", lines], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{block}\n{done.stderr}"
