"""Files from a stranger: none runs code, whatever it is and whatever the environment says."""

import hashlib
import importlib.util
import io
import json
import pickle
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from kdframe import checkpoint
from kdframe.config import ConfigError, load
from kdframe.datasets.cifar import unpickled
from kdframe.resuming import refuse_other_config, written
from kdframe.run_files import read_json

HERE = Path(__file__).parent
SWITCH = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
TEACHER = ("TEACHER.NAME=cifar_resnet", "TEACHER.DEPTH=8", "LOSS.kd={}")


def beside(name: str):
    """A file of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAYLOADS = beside("payloads")


@pytest.fixture(params=PAYLOADS.FORMS)
def hostile(request, tmp_path) -> bytes:
    """A checkpoint's shape around what would make the file ``ran``."""
    payload = PAYLOADS.Payload(tmp_path / "ran")
    state = {"step": 9, "state_dict": {"weight": torch.zeros(2), "bias": payload}}
    return PAYLOADS.FORMS[request.param](state)


def planted(folder: Path, content: bytes, step: int = 9) -> None:
    """A checkpoint with a manifest that agrees with it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step_{step}.pt"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    about = {"name": path.name, "size": len(content), "sha256": digest, "step": step, "config": ""}
    path.with_suffix(".json").write_text(json.dumps(about))


@pytest.mark.parametrize("form", PAYLOADS.LIVE)
def test_the_payloads_are_live(form, tmp_path) -> None:
    """Loaded without care they do run, so that what follows would notice."""
    content = PAYLOADS.FORMS[form](PAYLOADS.Payload(tmp_path / "ran"))
    with suppress(RuntimeError, pickle.UnpicklingError, EOFError):
        torch.load(io.BytesIO(content), weights_only=False)
    assert (tmp_path / "ran").is_dir()


@pytest.mark.parametrize("switch", [{}, SWITCH], ids=["plain", "switched"])
def test_no_payload_runs_when_it_is_loaded(hostile, switch, tmp_path, monkeypatch, count) -> None:
    """In this process: as weights under both endings, and as a checkpoint with and without a
    manifest."""
    for name, value in switch.items():
        monkeypatch.setenv(name, value)
    for ending in ("pt", "pth", "safetensors", "bin"):
        path = tmp_path / f"weights.{ending}"
        path.write_bytes(hostile)
        with pytest.raises(ValueError, match=f"{path}"):
            checkpoint.load_weights(path)
        count("payloads run", 0, of=1)
    folder = tmp_path / "checkpoints"
    planted(folder, hostile)
    with pytest.raises(checkpoint.NoCheckpoint, match="no checkpoint is whole"):
        checkpoint.newest(folder)
    (folder / "step_9.json").unlink()
    with pytest.raises(checkpoint.NoCheckpoint, match="no checkpoint is whole"):
        checkpoint.newest(folder)
    count("payloads run", int((tmp_path / "ran").exists()), of=2)
    assert not (tmp_path / "ran").exists()


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """It ended with that code and one line that has these words."""
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    for word in words:
        assert word in done.stderr


AS_WEIGHTS = (
    [*TEACHER, "TEACHER.WEIGHTS=weights.pt"],
    ["STUDENT.WEIGHTS=weights.pt"],
    ["--eval-only", "STUDENT.WEIGHTS=weights.pt", "OUTPUT_DIR=eval"],
)
AS_CHECKPOINT = (["--resume", "OUTPUT_DIR=out"], ["--eval-only", "OUTPUT_DIR=out"])


def commands(lab, content: bytes, switch: dict[str, str], places: int) -> None:
    """The real command with the file in as many of the places that it can stand in."""
    (lab.where / "weights.pt").write_bytes(content)
    planted(lab.where / "out/checkpoints", content)
    for words in AS_WEIGHTS[:places]:
        done = lab.run(*words, env=switch)
        refused(done, 2, ".WEIGHTS: weights.pt holds something other than tensors")
    for words in AS_CHECKPOINT[:places]:
        done = lab.run(*words, env=switch)
        refused(done, 5, "no checkpoint is whole")
    assert not (lab.where / "ran").exists()


def test_no_payload_runs_in_the_real_command(lab, count) -> None:
    """The worst of them: a zip, switched on by the environment, vouched for by its manifest."""
    content = PAYLOADS.zipped({"step": 9, "state": PAYLOADS.Payload(lab.where / "ran")})
    commands(lab, content, SWITCH, places=1)
    count("payloads run", 0, of=2)


@pytest.mark.faults
@pytest.mark.parametrize("switch", [{}, SWITCH], ids=["plain", "switched"])
@pytest.mark.parametrize("form", PAYLOADS.FORMS)
def test_no_payload_runs_in_any_form(lab, form, switch, count) -> None:
    payload = PAYLOADS.Payload(lab.where / "ran")
    commands(lab, PAYLOADS.FORMS[form]({"step": 9, "student": {"w": payload}}), switch, places=3)
    count("payloads run", 0, of=5)


@pytest.mark.parametrize(
    "content",
    [
        {1: torch.zeros(2)},
        {"w": [1]},
        {"w": torch.zeros(2, dtype=torch.complex64)},
        {"w": torch.eye(2).to_sparse()},
        {"w": torch.empty(2, device="meta")},
        [torch.zeros(2)],
        torch.zeros(2),
        None,
    ],
    ids=lambda content: str(content)[:30],
)
def test_what_is_no_mapping_of_names_to_numbers_is_no_weights(content, tmp_path) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt holds "):
        checkpoint.load_weights(tmp_path / "x.pt")


def test_a_header_that_lies_is_no_header(tmp_path) -> None:
    """safetensors: what the header says about the run is data of the right kind, or not there."""
    for about in ("[1]", "{", "[" * 5000, '{"classes": 3}'):
        header = json.dumps({"__metadata__": {"kdframe": about}}).encode()
        path = tmp_path / "x.safetensors"
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        try:
            weights, said = checkpoint.load_weights(path)
        except ValueError as error:
            assert "is no whole safetensors file" in str(error)
        else:
            assert (weights, said) in (({}, {}), ({}, {"classes": 3}))


@pytest.mark.parametrize("name", ["config.yaml", "run.json", "results.json"])
@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"[1]",
        b"9" * 10_000,
        b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        b"a: !!python/object/apply:os.mkdir [ran]\n",
    ],
    ids=["binary", "deep", "list", "digits", "aliases", "tag"],
)
def test_a_hostile_folder_is_refused_before_it_is_gone_on_with(name, content, tmp_path) -> None:
    (tmp_path / "x.yaml").write_text(
        "STUDENT: {NAME: resnet18}\nDATASET: {NAME: glyphs}\nLOSS: {cross_entropy: {}}\n"
    )
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=f"{name} is (gone or )?broken"):
        if name == "config.yaml":
            refuse_other_config(load(tmp_path / "x.yaml"), tmp_path)
            written(tmp_path / name)
        else:
            read_json(tmp_path / name)
    assert not Path("ran").exists()


def test_every_load_says_that_it_loads_weights_only() -> None:
    """In the text of every file: a call that doesn't say so is switched off by an environment."""
    root = HERE.parents[1]
    for path in [*root.glob("kdframe/**/*.py"), *root.glob("tools/*.py")]:
        text = path.read_text()
        assert text.count("torch.load(") == text.count("weights_only=True"), path
        assert "allow_pickle" not in text or "allow_pickle=False" in text
        for word in (
            "pickle.load",
            "np.load(",
            "numpy.load(",
            "yaml.load(",
            "eval(compile",
            "exec(",
        ):
            assert word not in text, f"{path}: {word}"


def test_an_archive_of_cifar_is_read_as_arrays_and_nothing_else(tmp_path) -> None:
    path = tmp_path / "data_batch_1"
    path.write_bytes(PAYLOADS.raw({"data": PAYLOADS.Payload(tmp_path / "ran")}))
    with pytest.raises(ValueError, match="has another md5"):
        unpickled(path, "0" * 32)
    with pytest.raises(
        ValueError, match=r"posix\.mkdir, which isn't data"
    ):  # even if the md5 agrees
        unpickled(path, hashlib.md5(path.read_bytes()).hexdigest())
    assert not (tmp_path / "ran").exists()
