"""What is written is whole, and what isn't is named and passed over."""

import io
import json
import os
import pickle
import random

import pytest
import torch
from torch import nn

from kdframe import checkpoint
from kdframe.solver import make_optimizer


def saved(folder, *steps, keep=9):
    for step in steps:
        state = {"step": step, "weight": torch.full((100,), float(step))}
        checkpoint.save(folder, state, step=step, config="c", keep=keep)


def test_the_newest_comes_back(tmp_path) -> None:
    saved(tmp_path, 1, 2, 10)
    state = checkpoint.newest(tmp_path)
    assert state is not None and state["step"] == 10 and state["weight"][0] == 10


def test_only_the_newest_are_kept(tmp_path) -> None:
    saved(tmp_path, 1, 2, 10, 20, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "step_10.json", "step_10.pt", "step_20.json", "step_20.pt",
    ]  # fmt: skip


def test_an_empty_folder_holds_no_state(tmp_path) -> None:
    assert checkpoint.newest(tmp_path) is None


@pytest.mark.parametrize("fault", ["flip", "cut", "missing", "manifest"])
def test_a_broken_checkpoint_is_named_and_the_one_before_is_taken(tmp_path, caplog, fault) -> None:
    saved(tmp_path, 1, 2)
    path = tmp_path / "step_2.pt"
    data = bytearray(path.read_bytes())
    if fault == "flip":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif fault == "cut":
        path.write_bytes(data[:-5])
    elif fault == "missing":
        path.unlink()
    else:
        path.with_suffix(".json").write_text("{")
    state = checkpoint.newest(tmp_path)
    assert state is not None and state["step"] == 1
    assert "step_2.pt is passed over" in caplog.text


def test_when_all_are_broken_nothing_starts_from_zero(tmp_path) -> None:
    saved(tmp_path, 1)
    (tmp_path / "step_1.pt").write_bytes(b"")
    with pytest.raises(checkpoint.NoCheckpoint):
        checkpoint.newest(tmp_path)


def test_weights_and_what_they_say_of_themselves_come_back(tmp_path) -> None:
    network, other = nn.Linear(3, 2), nn.Linear(3, 2)
    path = tmp_path / "w.safetensors"
    checkpoint.save_weights(path, network.state_dict(), {"classes": ["a", "b"]})
    weights, about = checkpoint.load_weights(path)
    checkpoint.fit(weights, other, path)
    assert about == {"classes": ["a", "b"]}
    assert torch.equal(network.weight, other.weight)


@pytest.mark.parametrize("key", ["state_dict", "model", ""])
def test_weights_of_other_frameworks_load_and_prefixes_are_told(tmp_path, caplog, key) -> None:
    caplog.set_level("INFO")
    network, other, path = nn.Linear(3, 2), nn.Linear(3, 2), tmp_path / "w.pt"
    tensors = {f"module.{k}": v for k, v in network.state_dict().items()}
    torch.save({key: tensors} if key else tensors, path)
    checkpoint.fit(checkpoint.load_weights(path)[0], other, path)
    assert torch.equal(network.bias, other.bias) and "'module.'" in caplog.text


def test_what_does_not_fit_is_named(tmp_path) -> None:
    weights = {"weight": torch.zeros(2, 4), "extra": torch.zeros(1)}
    with pytest.raises(ValueError) as error:
        checkpoint.fit(weights, nn.Linear(3, 2), tmp_path / "w.pt")
    for part in ("lacks bias", "has extra too many", "weight is (2, 4) in the file and (2, 3)"):
        assert part in str(error.value)


class Evil:
    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("force", ["", "1"])
def test_a_file_that_would_run_code_is_refused(tmp_path, monkeypatch, force) -> None:
    if force:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", force)
    Evil.marker = tmp_path / "ran"
    for name, dump in (
        ("zip.pt", torch.save),
        ("raw.pt", lambda x, f: f.write_bytes(pickle.dumps(x))),
    ):
        dump(Evil(), tmp_path / name)
        with pytest.raises(ValueError, match="isn't loaded"):
            checkpoint.load_weights(tmp_path / name)
    assert not Evil.marker.exists()


def test_the_digest_sees_a_bit(tmp_path) -> None:
    weights = {"a": torch.zeros(4), "b": torch.tensor(3)}
    before = checkpoint.digest(weights)
    assert checkpoint.digest(dict(reversed(weights.items()))) == before
    weights["a"][2] = 1e-40
    assert checkpoint.digest(weights) != before


def test_a_first_checkpoint_without_its_manifest_is_taken_only_if_it_is_whole(tmp_path) -> None:
    """A run that died between the two writes; torch's own checksums vouch for it."""
    saved(tmp_path, 1)
    (tmp_path / "step_1.json").unlink()
    state = checkpoint.newest(tmp_path)
    assert state is not None and state["step"] == 1
    data = bytearray((tmp_path / "step_1.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "step_1.pt").write_bytes(data)
    with pytest.raises(checkpoint.NoCheckpoint):
        checkpoint.newest(tmp_path)


def test_the_manifest_says_what_the_file_is(tmp_path) -> None:
    saved(tmp_path, 7)
    manifest = json.loads((tmp_path / "step_7.json").read_text())
    assert manifest["step"] == 7 and manifest["config"] == "c"
    assert manifest["size"] == (tmp_path / "step_7.pt").stat().st_size


class Chance(torch.optim.SGD):
    """Has a generator of its own, as timm's kron."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        self.random = random.Random(0)

    def state_dict(self) -> dict:
        return {**super().state_dict(), "random": self.random.getstate()}

    def load_state_dict(self, state) -> None:
        super().load_state_dict(state)
        self.random.setstate(state["random"])


def test_a_resumed_optimizer_goes_on_with_its_own_generator() -> None:
    network, file = nn.Linear(3, 2), io.BytesIO()
    first, second = (Chance(network.parameters(), lr=0.1) for _ in range(2))
    first.random.random()
    torch.save(checkpoint.shared_of(first), file)
    shared = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    checkpoint.load_by_name(network, second, {}, shared)
    assert second.random.random() == first.random.random()


def test_complex_weights_are_refused_and_not_made_real(tmp_path) -> None:
    path = tmp_path / "w.safetensors"
    checkpoint.save_weights(path, {"w": torch.ones(2, dtype=torch.complex64)}, {})
    with pytest.raises(ValueError, match="holds something other than real numbers"):
        checkpoint.load_weights(path)


@pytest.mark.parametrize("name", ["momentum", "adamw", "lamb", "adan", "adafactor", "lion"])
def test_a_resumed_optimizer_steps_as_one_that_never_stopped(name) -> None:
    """Some count their steps in the group, where no parameter's name leads to."""
    networks, optimizers = [nn.Linear(3, 2) for _ in range(2)], []
    for network in networks:
        network.load_state_dict(networks[0].state_dict())
        options = {"lr": 0.1, "weight_decay": 0.01, "momentum": 0.9, "nesterov": False}
        optimizers.append(make_optimizer(name, list(network.parameters()), **options))

    def step(i: int, x: float) -> None:
        networks[i](torch.tensor([[x, 1.0, -x]])).square().sum().backward()
        optimizers[i].step()
        optimizers[i].zero_grad()

    for x in (1.0, 2.0, 3.0):
        step(0, x)
    by_name = checkpoint.by_name(networks[0], optimizers[0])
    saved = by_name, checkpoint.shared_of(optimizers[0])
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    networks[1].load_state_dict(networks[0].state_dict())
    checkpoint.load_by_name(networks[1], optimizers[1], *torch.load(file, weights_only=True))
    for x in (4.0, 5.0):
        step(0, x)
        step(1, x)
    assert torch.equal(networks[0].weight, networks[1].weight)
