"""Half precision and compilation: what is refused and said, and that neither leaves a trace."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from kdframe import arithmetic, build, checkpoint, run
from kdframe.config import Config, ConfigError, load
from kdframe.reports import summary

CONFIG = """
DATASET: {NAME: glyphs, TRAIN: 90, TEST: 36, VAL: 18}
STUDENT: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 2}
TEACHER: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 4, WEIGHTS: random}
SOLVER: {EPOCHS: 1, BATCH_SIZE: 36, LR: 0.01}
HOOKS: {progress: null, tensorboard: null, curves: null, metrics: {PERIOD: 1}}
"""
TERMS = {
    "taps": "{cross_entropy: {}, kd: {}, ofd: {}}",
    "deployed": "{simkd: {}}",
    "state": "{cross_entropy: {}, crd: {NEGATIVES: 8}}",
}


def config(folder: Path, loss: str, *words: str) -> Config:
    (folder / "c.yaml").write_text(f"{CONFIG}LOSS: {loss}\n")
    return load(folder / "c.yaml", ["DEVICE", "cpu", *words])


def trained(folder: Path, loss: str, *words: str) -> dict[str, Tensor]:
    """The weights that a run leaves in ``folder / "run"``."""
    run.train(config(folder, loss, *words), folder / "run")
    return load_file(folder / "run/student.safetensors")


def has(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    monkeypatch.setattr(arithmetic, "cpu_flags", lambda: {"fpu", "avx2", *flags})


@pytest.mark.parametrize("flags", [(), ("avx512f", "avx512_vnni")])
def test_bf16_on_a_cpu_without_its_instructions_is_the_users_mistake(
    tmp_path, monkeypatch, flags
) -> None:
    has(monkeypatch, *flags)
    wrong = config(tmp_path, "{kd: {}}", "SOLVER.PRECISION", "bf16")
    says = r"^command line: SOLVER.PRECISION: bf16 needs a CPU with AVX512_BF16 or AMX, which"
    with pytest.raises(ConfigError, match=says):
        run.train(wrong, tmp_path / "run")
    with pytest.raises(ConfigError, match=says):
        run.eval_only(wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert arithmetic.dtype_on("bf16", torch.device("cuda")) == torch.bfloat16
    assert arithmetic.dtype_on("fp32", torch.device("cpu")) == torch.float32


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16", "bf16"])
def test_one_of_the_instructions_is_enough(monkeypatch, flag) -> None:
    has(monkeypatch, flag)
    assert arithmetic.dtype_on("bf16", torch.device("cpu")) == torch.bfloat16


def test_fp16_is_for_accelerators() -> None:
    assert arithmetic.dtype_on("fp16", torch.device("cuda")) == torch.float16
    with pytest.raises(ValueError, match="fp16 needs an accelerator"):
        arithmetic.dtype_on("fp16", torch.device("cpu"))


@pytest.mark.skipif(sys.platform != "linux", reason="known on Linux only")
def test_the_flags_are_read_where_there_are_some() -> None:
    assert len(arithmetic.cpu_flags()) > 5
    assert torch.cpu._is_avx512_bf16_supported() == ("avx512_bf16" in arithmetic.cpu_flags())


@pytest.mark.parametrize("loss", TERMS.values(), ids=TERMS)
def test_half_precision_says_how_far_it_is_and_leaves_no_trace(
    tmp_path, monkeypatch, caplog, loss
) -> None:
    """With the line and without it, the bytes are the same; both losses are those of step 0."""
    has(monkeypatch, "avx512_bf16")
    weights, said = {}, {}
    for name, words in (("half", ("bf16",)), ("quiet", ("bf16",)), ("single", ("fp32",))):
        (tmp_path / name).mkdir()
        if name == "quiet":
            monkeypatch.setattr(arithmetic.FirstLoss, "before_train", lambda self, trainer: None)
        with caplog.at_level("INFO", "kdframe"):
            caplog.clear()
            words = ("SOLVER.PRECISION", *words, "SOLVER.ACCUMULATE", "2")
            weights[name] = trained(tmp_path / name, loss, *words)
        said[name] = re.findall(r"bf16     .* loss is (\S+), and (\S+) in fp32", caplog.text)
    assert [len(said[name]) for name in ("half", "quiet", "single")] == [1, 0, 0]
    files = [tmp_path / name / "run/metrics.jsonl" for name in ("half", "quiet", "single")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert all(torch.equal(weights["half"][k], weights["quiet"][k]) for k in weights["half"])
    first = [json.loads(file.read_text().splitlines()[0])["loss"] for file in files]
    found, exact = map(float, said["half"][0])
    assert (found, exact) == pytest.approx((first[0], first[2]), rel=1e-5)
    assert found != exact


@pytest.mark.parametrize("loss", TERMS.values(), ids=TERMS)
def test_compiled_networks_train_as_the_others_and_keep_their_names(
    tmp_path, monkeypatch, caplog, loss
) -> None:
    monkeypatch.setattr(arithmetic, "compiling", lambda *how: {"backend": "aot_eager"})
    for name in ("plain", "compiled"):
        (tmp_path / name).mkdir()
    plain = trained(tmp_path / "plain", loss, "SOLVER.EMA", "0.5")
    with caplog.at_level("INFO", "kdframe"):
        found = trained(tmp_path / "compiled", loss, "SOLVER.COMPILE", "true", "SOLVER.EMA", "0.5")
    assert "channels_last, compiled, seed 0" in caplog.text
    assert "COMPILE takes about a minute on a CPU" in caplog.text
    torch.testing.assert_close(found, plain, rtol=1e-3, atol=1e-4)
    state = checkpoint.newest(tmp_path / "compiled/run/checkpoints")
    assert state is not None and "_orig_mod" not in str(state.keys()) + str(
        [state[part].keys() for part in ("student", "learned", "deployed", "optimizer")]
    )
    results = [
        json.loads((tmp_path / name / "run/results.json").read_text())["test"]["nll"]
        for name in ("plain", "compiled")
    ]
    assert results[1] == pytest.approx(results[0], rel=1e-3)


def test_graphs_are_for_cuda_and_no_shape_is_a_guess() -> None:
    assert arithmetic.compiling(torch.device("cpu")) == {"dynamic": False}
    assert arithmetic.compiling(torch.device("cuda"), learns=False) == {"dynamic": False}
    assert arithmetic.compiling(torch.device("cuda", 0)) == {
        "dynamic": False,
        "mode": "reduce-overhead",
    }


def test_evaluation_asks_what_is_not_compiled(tmp_path, monkeypatch) -> None:
    """It holds two networks' answers at once, and its last batch has another size."""
    from_config = config(tmp_path, "{kd: {}}", "SOLVER.COMPILE", "true")
    calls = []

    def counting(graph, inputs):
        calls.append(graph)
        return graph.forward

    monkeypatch.setattr(arithmetic, "compiling", lambda *how: {"backend": counting})
    data = build.build_data(from_config, torch.device("cpu"))
    student, teachers = build.build_networks(from_config, data)
    trainer = build.build_trainer(from_config, data, student, teachers, tmp_path)
    run.gate(from_config, data, trainer, teachers)
    assert not calls
    student(next(data.train.train(0, 4)).image)
    assert calls


def test_what_is_on_and_what_is_untested_is_said(tmp_path) -> None:
    words = ("SOLVER.COMPILE", "true", "DETERMINISTIC", "true", "SOLVER.PRECISION", "bf16")
    tree = config(tmp_path, "{kd: {}}", *words).tree
    cuda, mps = torch.device("cuda"), torch.device("mps")
    said = ", ".join(summary.turned_on(tree, cuda))
    assert said == "bf16, channels_last, compiled with CUDA graphs, deterministic"
    assert not list(summary.notes(tree, cuda))
    assert [note[:26] for note in summary.notes(tree, mps)] == ["DEVICE mps is untested: no"]
