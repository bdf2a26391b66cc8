"""Files of RepDistiller (CRD's code) and mdistiller, written here from the networks' structure.

Names and shapes are listed by loops of their own, and a forward pass of the listed tensors, by
torch functions alone, must give the loaded network's logits, embedding and features.
"""

import argparse
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdframe import build, checkpoint
from kdframe.backbones import Backbone
from kdframe.config import ConfigError, load
from kdframe.registry import BACKBONES

Shapes = Iterator[tuple[str, tuple[int, ...]]]
Tensors = dict[str, Tensor]


# -- what is in a file ---------------------------------------------------------------------------


def norm(name: str, width: int) -> Shapes:
    for tensor in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{tensor}", (width,)
    yield f"{name}.num_batches_tracked", ()


def conv(name: str, c_in: int, c_out: int, kernel: int, groups: int = 1) -> Shapes:
    yield f"{name}.weight", (c_out, c_in // groups, kernel, kernel)


def conv_norm(names: str, number: int, c_in: int, c_out: int, k: int, groups: int = 1) -> Shapes:
    """``names`` is where conv<number> and bn<number> stand."""
    yield from conv(f"{names}conv{number}", c_in, c_out, k, groups)
    yield from norm(f"{names}bn{number}", c_out)


def linear(name: str, c_in: int) -> Shapes:
    yield from ((f"{name}.weight", (100, c_in)), (f"{name}.bias", (100,)))


def resnet(blocks: int, stem: int = 16, width: int = 16) -> Shapes:
    yield from conv_norm("", 1, 3, stem, 3)
    c = stem
    for stage in (1, 2, 3):
        for block in range(blocks):
            at, out = f"layer{stage}.{block}.", width * 2 ** (stage - 1)
            yield from conv_norm(at, 1, c, out, 3)
            yield from conv_norm(at, 2, out, out, 3)
            if block == 0 and (stage > 1 or c != out):
                yield from conv(f"{at}downsample.0", c, out, 1)
                yield from norm(f"{at}downsample.1", out)
            c = out
    yield from linear("fc", c)


def resnet50() -> Shapes:
    yield from conv_norm("", 1, 3, 64, 3)
    c = 64
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            at, narrow = f"layer{stage}.{block}.", 32 * 2**stage
            yield from conv_norm(at, 1, c, narrow, 1)
            yield from conv_norm(at, 2, narrow, narrow, 3)
            yield from conv_norm(at, 3, narrow, 4 * narrow, 1)
            if block == 0:
                yield from conv(f"{at}shortcut.0", c, 4 * narrow, 1)
                yield from norm(f"{at}shortcut.1", 4 * narrow)
            c = 4 * narrow
    yield from linear("linear", c)


def wrn(blocks: int, width: int) -> Shapes:
    yield from conv("conv1", 3, 16, 3)
    c = 16
    for stage in (1, 2, 3):
        for block in range(blocks):
            at, out = f"block{stage}.layer.{block}.", width * 8 * 2**stage
            yield from norm(f"{at}bn1", c)
            yield from conv(f"{at}conv1", c, out, 3)
            yield from norm(f"{at}bn2", out)
            yield from conv(f"{at}conv2", out, out, 3)
            if c != out:
                yield from conv(f"{at}convShortcut", c, out, 1)
            c = out
    yield from norm("bn1", c)
    yield from linear("fc", c)


def vgg(*depths: int) -> Shapes:
    c = 3
    for block, (depth, out) in enumerate(zip(depths, (64, 128, 256, 512, 512), strict=True)):
        for i in range(depth):
            yield from conv(f"block{block}.{3 * i}", c, out, 3)
            yield f"block{block}.{3 * i}.bias", (out,)
            yield from norm(f"block{block}.{3 * i + 1}", out)
            c = out
    yield from linear("classifier", c)


MOBILE = ((1, 8, 1), (6, 12, 2), (6, 16, 3), (6, 32, 4), (6, 48, 3), (6, 80, 3), (6, 160, 1))


def mobilenetv2() -> Shapes:
    yield from conv("conv1.0", 3, 16, 3)
    yield from norm("conv1.1", 16)
    c = 16
    for group, (expansion, out, blocks) in enumerate(MOBILE):
        for block in range(blocks):
            at, wide = f"blocks.{group}.{block}.conv.", expansion * c
            yield from conv(f"{at}0", c, wide, 1)
            yield from norm(f"{at}1", wide)
            yield from conv(f"{at}3", wide, wide, 3, wide)
            yield from norm(f"{at}4", wide)
            yield from conv(f"{at}6", wide, out, 1)
            yield from norm(f"{at}7", out)
            c = out
    yield from conv("conv2.0", c, 1280, 1)
    yield from norm("conv2.1", 1280)
    yield from linear("classifier.0", 1280)


def shufflenetv1() -> Shapes:
    yield from conv_norm("", 1, 3, 24, 1)
    c = 24
    for stage, (out, units) in enumerate(((240, 4), (480, 8), (960, 4)), start=1):
        for unit in range(units):
            at, made = f"layer{stage}.{unit}.", out - c if unit == 0 else out
            yield from conv_norm(at, 1, c, made // 4, 1, 1 if c == 24 else 3)
            yield from conv_norm(at, 2, made // 4, made // 4, 3, made // 4)
            yield from conv_norm(at, 3, made // 4, made, 1, 3)
            c = out
    yield from linear("linear", c)


def shufflenetv2() -> Shapes:
    yield from conv_norm("", 1, 3, 24, 1)
    c = 24
    for stage, (out, units) in enumerate(((116, 3), (232, 7), (464, 3)), start=1):
        at, h = f"layer{stage}.0.", out // 2
        yield from conv_norm(at, 1, c, c, 3, c)
        yield from conv_norm(at, 2, c, h, 1)
        yield from conv_norm(at, 3, c, h, 1)
        yield from conv_norm(at, 4, h, h, 3, h)
        yield from conv_norm(at, 5, h, h, 1)
        for unit in range(1, units + 1):
            for number, kernel, groups in ((1, 1, 1), (2, 3, h), (3, 1, 1)):
                yield from conv_norm(f"layer{stage}.{unit}.", number, h, h, kernel, groups)
        c = out
    yield from conv_norm("", 2, c, 1024, 1)
    yield from linear("linear", 1024)


FILES: dict[str, tuple[int, list[tuple[str, tuple[int, ...]]]]] = {  # parameters, and the list
    "resnet8": (83_892, [*resnet(1)]),
    "resnet14": (181_108, [*resnet(2)]),
    "resnet20": (278_324, [*resnet(3)]),
    "resnet32": (472_756, [*resnet(5)]),
    "resnet44": (667_188, [*resnet(7)]),
    "resnet56": (861_620, [*resnet(9)]),
    "resnet110": (1_736_564, [*resnet(18)]),
    "resnet8x4": (1_233_540, [*resnet(1, 32, 64)]),
    "resnet32x4": (7_433_860, [*resnet(5, 32, 64)]),
    "resnet50": (23_705_252, [*resnet50()]),
    "wrn_16_1": (180_916, [*wrn(2, 1)]),
    "wrn_16_2": (703_284, [*wrn(2, 2)]),
    "wrn_40_1": (569_780, [*wrn(6, 1)]),
    "wrn_40_2": (2_255_156, [*wrn(6, 2)]),
    "vgg8": (3_965_028, [*vgg(1, 1, 1, 1, 1)]),
    "vgg11": (9_277_284, [*vgg(1, 1, 2, 2, 2)]),
    "vgg13": (9_462_180, [*vgg(2, 2, 2, 2, 2)]),
    "vgg16": (14_774_436, [*vgg(2, 2, 3, 3, 3)]),
    "vgg19": (20_086_692, [*vgg(2, 2, 4, 4, 4)]),
    "mobilenetv2": (812_836, [*mobilenetv2()]),
    "shufflenetv1": (949_258, [*shufflenetv1()]),
    "shufflenetv2": (1_355_528, [*shufflenetv2()]),
}


def drawn(name: str) -> Tensors:
    """A file's tensors; every layer keeps its input's size, so that errors anywhere show."""

    def draw(tensor: str, shape: tuple[int, ...]) -> Tensor:
        if len(shape) > 1:
            return torch.randn(shape) / math.sqrt(math.prod(shape[1:]))
        if tensor.endswith(("running_var", "weight")):
            return torch.rand(shape) + 0.5
        return 0.1 * torch.randn(shape) if shape else torch.tensor(7)

    return {tensor: draw(tensor, shape) for tensor, shape in FILES[name][1]}


def built(name: str) -> Backbone:
    return BACKBONES[name](100, **{"small_input": True} if name == "resnet50" else {})


def loaded(name: str, tensors: Tensors) -> Backbone:
    backbone = built(name)
    checkpoint.fit(tensors, backbone.network, Path("file.pth"), backbone.foreign)
    return backbone


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_the_papers_parameters_and_every_tensor_finds_its_place(name) -> None:
    parameters, listed = FILES[name]
    counts = [math.prod(s) for n, s in listed if n.endswith((".weight", ".bias"))]
    assert sum(counts) == parameters
    tensors = {n: torch.full(shape, i % 97) for i, (n, shape) in enumerate(listed)}
    backbone = loaded(name, tensors)
    assert sum(p.numel() for p in backbone.parameters()) == parameters
    found = [int(t.flatten()[0]) for t in backbone.network.state_dict().values()]
    assert sorted(found) == sorted(i % 97 for i in range(len(listed)))


# -- what the files' tensors compute -------------------------------------------------------------


class Pass:
    """Layers of a file by name."""

    def __init__(self, tensors: Tensors) -> None:
        self.w = {name: tensor.double() for name, tensor in tensors.items()}

    def conv(self, name: str, x: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
        weight = self.w[f"{name}.weight"]
        return F.conv2d(
            x, weight, self.w.get(f"{name}.bias"), stride, weight.shape[-1] // 2, 1, groups
        )

    def norm(self, name: str, x: Tensor) -> Tensor:
        mean, var, weight, bias = (
            self.w[f"{name}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias

    def both(self, at: str, number: int, x: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
        return self.norm(f"{at}bn{number}", self.conv(f"{at}conv{number}", x, stride, groups))

    def blocks(self, at: str) -> list[str]:
        """The prefixes of the blocks below a name, in order."""
        numbers = {int(n[len(at) :].split(".")[0]) for n in self.w if n.startswith(at)}
        return [f"{at}{i}." for i in range(len(numbers))]

    def end(self, classifier: str, features: list[Tensor], final: Tensor) -> list[Tensor]:
        embedding = final.mean((2, 3))
        w = self.w[f"{classifier}.weight"]
        return [*features, embedding, embedding @ w.T + self.w[f"{classifier}.bias"]]


def run_resnet(p: Pass, x: Tensor) -> list[Tensor]:
    features = [x := p.both("", 1, x).relu()]
    stages = [s for s in (1, 2, 3, 4) if p.blocks(f"layer{s}.")]
    for stage in stages:
        for i, at in enumerate(p.blocks(f"layer{stage}.")):
            stride = 2 if stage > 1 and i == 0 else 1
            deep = f"{at}conv3.weight" in p.w  # a bottleneck, whose 3x3 convolution has the stride
            y = p.both(at, 1, x, 1 if deep else stride).relu()
            y = p.both(at, 2, y, stride if deep else 1)
            y = p.both(at, 3, y.relu()) if deep else y
            for short in ("downsample", "shortcut"):
                if f"{at}{short}.0.weight" in p.w:
                    x = p.norm(f"{at}{short}.1", p.conv(f"{at}{short}.0", x, stride))
            x = (x + y).relu()
        features.append(x)
    return p.end("linear" if "linear.weight" in p.w else "fc", features, x)


def run_wrn(p: Pass, x: Tensor) -> list[Tensor]:
    features = [x := p.conv("conv1", x)]
    for stage in (1, 2, 3):
        for i, at in enumerate(p.blocks(f"block{stage}.layer.")):
            stride = 2 if stage > 1 and i == 0 else 1
            active = p.norm(f"{at}bn1", x).relu()
            y = p.conv(f"{at}conv1", active, stride)
            y = p.conv(f"{at}conv2", p.norm(f"{at}bn2", y).relu())
            short = f"{at}convShortcut"
            x = y + (p.conv(short, active, stride) if f"{short}.weight" in p.w else x)
        features.append(x)
    return p.end("fc", features, p.norm("bn1", x).relu())


def run_vgg(p: Pass, x: Tensor) -> list[Tensor]:
    size, features = x.shape[-1], []
    for block in range(5):
        if block in (1, 2, 3) or (block == 4 and size == 64):
            x = F.max_pool2d(x, 2)
        for i in range(0, len(p.blocks(f"block{block}.")), 2):
            at = 3 * i // 2
            x = p.norm(f"block{block}.{at + 1}", p.conv(f"block{block}.{at}", x)).relu()
        features.append(x)
    return p.end("classifier", features, x)


def run_mobilenetv2(p: Pass, x: Tensor) -> list[Tensor]:
    features = [x := p.norm("conv1.1", p.conv("conv1.0", x, 2)).relu()]
    for group, first in enumerate((1, 1, 2, 2, 1, 2, 1)):
        for i, at in enumerate(p.blocks(f"blocks.{group}.")):
            stride = first if i == 0 else 1
            y = p.norm(f"{at}conv.1", p.conv(f"{at}conv.0", x)).relu()
            y = p.conv(f"{at}conv.3", y, stride, groups=y.shape[1])
            y = p.norm(f"{at}conv.4", y).relu()
            y = p.norm(f"{at}conv.7", p.conv(f"{at}conv.6", y))
            x = x + y if stride == 1 and x.shape == y.shape else y
        if group in (1, 2, 4, 6):
            features.append(x)
    return p.end("classifier.0", features, p.norm("conv2.1", p.conv("conv2.0", x)).relu())


def shuffled(x: Tensor, groups: int) -> Tensor:
    """Channel i of group g becomes channel i * groups + g."""
    per = x.shape[1] // groups
    return x[:, [g * per + i for i in range(per) for g in range(groups)]]


def run_shufflenetv1(p: Pass, x: Tensor) -> list[Tensor]:
    features = [x := p.both("", 1, x).relu()]
    for stage in (1, 2, 3):
        for i, at in enumerate(p.blocks(f"layer{stage}.")):
            groups = 1 if stage == 1 and i == 0 else 3
            y = shuffled(p.both(at, 1, x, groups=groups).relu(), groups)
            y = p.both(at, 2, y, 1 if i else 2, groups=y.shape[1]).relu()
            y = p.both(at, 3, y, groups=3)
            x = (y + x if i else torch.cat([y, F.avg_pool2d(x, 3, 2, 1)], 1)).relu()
        features.append(x)
    return p.end("linear", features, x)


def run_shufflenetv2(p: Pass, x: Tensor) -> list[Tensor]:
    features = [x := p.both("", 1, x).relu()]
    for stage in (1, 2, 3):
        for i, at in enumerate(p.blocks(f"layer{stage}.")):
            half = x.shape[1] // 2
            if i == 0:
                passed = p.both(at, 2, p.both(at, 1, x, 2, groups=x.shape[1])).relu()
                first, stride, y = 3, 2, x
            else:
                passed, first, stride, y = x[:, :half], 1, 1, x[:, half:]
            y = p.both(at, first, y).relu()
            y = p.both(at, first + 1, y, stride, groups=y.shape[1])
            y = p.both(at, first + 2, y).relu()
            x = shuffled(torch.cat([passed, y], 1), 2)
        features.append(x)
    return p.end("linear", features, p.both("", 2, x).relu())


@pytest.mark.parametrize(
    ("name", "run", "size"),
    [
        ("resnet20", run_resnet, 32),
        ("resnet8x4", run_resnet, 32),
        ("resnet50", run_resnet, 32),
        ("wrn_16_1", run_wrn, 32),
        ("wrn_16_2", run_wrn, 32),
        ("vgg8", run_vgg, 32),
        ("vgg8", run_vgg, 64),
        ("vgg11", run_vgg, 32),
        ("mobilenetv2", run_mobilenetv2, 32),
        ("shufflenetv1", run_shufflenetv1, 32),
        ("shufflenetv2", run_shufflenetv2, 32),
    ],
)
def test_a_loaded_network_computes_what_the_files_tensors_do(
    name: str, run: Callable[[Pass, Tensor], list[Tensor]], size: int
) -> None:
    tensors = drawn(name)
    backbone = loaded(name, tensors).double().eval()
    image = torch.randn(1, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        *features, embedding, logits = run(Pass(tensors), image)
        output = backbone(image)
    torch.testing.assert_close(output.features, features)
    torch.testing.assert_close(output.embedding, embedding)
    torch.testing.assert_close(output.logits, logits)
    assert logits.std() > 0.01


# -- how the files are written -------------------------------------------------------------------


def published(tensors: Tensors, **more: object) -> dict[str, object]:
    """As RepDistiller's and mdistiller's training scripts leave it: the rate is a numpy number."""
    group = {"lr": 0.05 * 0.1 ** np.sum(np.asarray([150, 180]) < 200), "momentum": 0.9}
    assert isinstance(group["lr"], np.float64)
    state = {0: {"momentum_buffer": torch.zeros(2)}}
    optimizer = {"state": state, "param_groups": [{**group, "params": [0]}]}
    return {"epoch": 240, "model": tensors, "optimizer": optimizer, **more}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "more",
    [
        {"accuracy": torch.tensor(72.3)},
        {"best_acc": np.float32(72.3), "steps": np.int64(3)},
        {"opt": argparse.Namespace(model="resnet20", lr_decay_epochs=[150, 180], lr=np.float64(1))},
    ],
)
def test_what_else_is_in_a_public_file_does_no_harm(tmp_path, zipped, more) -> None:
    path, tensors = tmp_path / "ckpt_epoch_240.pth", drawn("resnet8")
    torch.save(published(tensors, **more), path, _use_new_zipfile_serialization=zipped)
    weights, about = checkpoint.load_weights(path)
    assert about == {}
    torch.testing.assert_close(dict(weights), tensors, rtol=0, atol=0)


def test_a_file_of_a_numpy_before_2_is_read_too(tmp_path) -> None:
    path = tmp_path / "old.pth"
    torch.save(published(drawn("resnet8")), path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    for core in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        path.write_bytes(data.replace(b"numpy._core.multiarray", core))
        assert core in path.read_bytes()
        assert "fc.bias" in checkpoint.load_weights(path)[0]


# -- through a config ----------------------------------------------------------------------------

RECIPE = """
STUDENT: {NAME: wrn_16_1, WEIGHTS: file.pth}
DATASET: {NAME: glyphs}
LOSS: {cross_entropy: {}}
"""


@pytest.fixture
def load_file(tmp_path, monkeypatch) -> Callable[[Tensors], Backbone]:
    """STUDENT with WEIGHTS of a file that holds these tensors."""
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(RECIPE)

    def call(tensors: Tensors) -> Backbone:
        torch.save(published(tensors), "file.pth")
        config = load("x.yaml")
        backbone = build.build_backbone(config, "STUDENT", 100, (3, 32, 32))
        data = SimpleNamespace(about={})
        build.load_weights(config, "STUDENT", backbone, config.tree.STUDENT.WEIGHTS, data)
        return backbone

    return call


def test_a_config_loads_a_public_file_and_says_that_names_were_mapped(load_file, caplog) -> None:
    caplog.set_level(logging.INFO)
    tensors = drawn("wrn_16_1")
    network = load_file(tensors).network
    mapped = [line for line in caplog.messages if "mapped" in line]
    assert mapped == ["file.pth: its tensors' names are mapped to this network's"]
    assert torch.equal(network.stages[1].blocks[0].downsample.conv.weight,
                       tensors["block2.layer.0.convShortcut.weight"])  # fmt: skip
    caplog.clear()
    load_file(network.state_dict())
    assert not any("mapped" in line for line in caplog.messages)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("block3.layer.1.bn2.bias"), "lacks stages.2.blocks.1.norm2.bias"),
        (lambda w: w.update(extra=w["bn1.bias"]), "has extra too many"),
        (lambda w: w.update({"fc.bias": torch.zeros(10)}), r"head.fc.bias is \(10,\) in the file"),
        (lambda w: w.update({"head.fc.bias": w["fc.bias"]}), "has head.fc.bias twice"),
    ],
)
def test_a_public_file_that_does_not_fit_is_refused(load_file, change, message) -> None:
    tensors = drawn("wrn_16_1")
    change(tensors)
    with pytest.raises(ConfigError, match=message):
        load_file(tensors)


def test_another_networks_file_is_refused(load_file) -> None:
    with pytest.raises(ConfigError, match="doesn't fit"):
        load_file(drawn("resnet8"))
