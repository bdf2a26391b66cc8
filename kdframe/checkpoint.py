"""State to disk and back, whole or not at all."""

import argparse
import hashlib
import io
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

log = logging.getLogger("kdframe")

TEMPORARY = ".tmp"
ABOUT = "kdframe"  # the entry of a safetensors header
PREFIXES = ("module.", "_orig_mod.")  # what DistributedDataParallel and torch.compile put before
HARMLESS: list[Any] = [  # what public files hold beside weights: options, numpy's numbers
    argparse.Namespace,
    np.dtype,
    type(np.dtype("float32")),
    type(np.dtype("float64")),
    type(np.dtype("int64")),
    *(
        (np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar")
        for core in ("core", "_core")  # before numpy 2, and since
    ),
]


class NoCheckpoint(RuntimeError):
    """There are checkpoints, and none is whole."""

    exit_code = 5


class Digesting(io.RawIOBase):
    """A file that is only written to, and digested on the way."""

    def __init__(self, file: io.BufferedWriter) -> None:
        self.file, self.sha256, self.size = file, hashlib.sha256(), 0

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        written = self.file.write(data)
        self.size += written
        return written


def write(path: Path, writer: Callable[[Digesting], Any]) -> tuple[int, str]:
    """Writes a file so that ``path`` is either the old file or the whole new one.

    Returns:
        Its size in bytes and its SHA-256.

    Raises:
        OSError: the disk is full, or the folder can't be written; ``path`` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            sink = Digesting(file)
            writer(sink)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself must survive a power cut
    finally:
        os.close(folder)
    return sink.size, sink.sha256.hexdigest()


def write_text(path: Path, text: str) -> None:
    """``write`` for a string."""
    write(path, lambda sink: sink.write(text.encode()))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """``write`` for a mapping; a number that isn't finite is an error, not a NaN in the file."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def save(folder: Path, state: Mapping[str, Any], *, step: int, config: str, keep: int) -> Path:
    """Writes ``step_<n>.pt`` and its manifest, then removes all but the newest ``keep``."""
    folder.mkdir(exist_ok=True)
    path = folder / f"step_{step}.pt"
    size, sha256 = write(path, lambda sink: torch.save(state, cast(IO[bytes], sink)))
    manifest = {"name": path.name, "size": size, "sha256": sha256, "step": step, "config": config}
    write_json(path.with_suffix(".json"), manifest)
    for old in manifests(folder)[keep:]:
        old.with_suffix(".pt").unlink(missing_ok=True)
        old.unlink()
    return path


def newest(folder: Path) -> dict[str, Any] | None:
    """The state of the newest checkpoint that is whole; None if the folder holds none at all.

    Raises:
        NoCheckpoint: there are some, and each is broken.
    """
    for stray in folder.glob(f".*{TEMPORARY}"):
        stray.unlink(missing_ok=True)
    found = manifests(folder)
    for manifest in found:
        fault, data = examine(manifest)
        if data is not None:
            state: dict[str, Any] = torch.load(data, map_location="cpu", weights_only=True)
            return state
        log.warning("%s is passed over: %s", manifest.with_suffix(".pt"), fault)
    if found or list(folder.glob("step_*.pt")):
        raise NoCheckpoint(f"{folder}: no checkpoint is whole; remove the folder to start anew.")
    return None


def manifests(folder: Path) -> list[Path]:
    """The manifests in a folder of checkpoints, newest first."""
    return sorted(folder.glob("step_*.json"), key=lambda p: int(p.stem[5:]), reverse=True)


def examine(manifest: Path) -> tuple[str, io.BytesIO | None]:
    """What is wrong with a checkpoint, or its bytes: those that were digested are those loaded."""
    try:
        said = json.loads(manifest.read_text())
        size, sha256 = said["size"], said["sha256"]
        data = manifest.with_suffix(".pt").read_bytes()
    except FileNotFoundError:
        return "its file is missing", None
    except (ValueError, KeyError, TypeError):
        return "its manifest can't be read", None
    if len(data) != size:
        return f"it has {len(data)} bytes instead of {size}", None
    if hashlib.sha256(data).hexdigest() != sha256:
        return "its digest differs", None
    return "", io.BytesIO(data)


def save_weights(path: Path, weights: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Writes a network's tensors as safetensors, with ``about`` (JSON-able) in its header."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    header = {ABOUT: json.dumps(about)}  # one entry: safetensors writes several in any order
    write(path, lambda sink: sink.write(safetensors.torch.save(tensors, header)))


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A file's tensors and what it says about itself (empty for a ``.pt`` file).

    A ``.pt`` or ``.pth`` file may hold the tensors under "state_dict", "model" or "student".

    Raises:
        ValueError: the file is no file of weights, or would run code.
    """
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {}).get(ABOUT, "{}"))
            return safetensors.torch.load_file(path), about if isinstance(about, dict) else {}
        except (SafetensorError, json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{path} is no whole safetensors file ({error})") from error
    try:
        with torch.serialization.safe_globals(HARMLESS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises nearly anything for a file that isn't its own
        raise ValueError(f"{path} holds something other than tensors, and isn't loaded") from error
    for key in ("state_dict", "model", "student"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(map(is_weight, content, content.values())):
        raise ValueError(f"{path} holds no mapping of names to tensors")
    return content, {}


def is_weight(name: object, tensor: object) -> bool:
    """Whether they are a name and plain numbers: not sparse, quantised, complex or without data."""
    return (
        isinstance(name, str)
        and isinstance(tensor, Tensor)
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
        and not tensor.is_complex()
    )


def fit(
    weights: Mapping[str, Tensor],
    network: torch.nn.Module,
    path: Path,
    foreign: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None,
) -> None:
    """Loads weights into a network: every tensor of one in the other, of the same shape.

    ``foreign`` gives tensors their names in the network, where the file has others.

    Raises:
        ValueError: names and shapes that differ.
    """
    for prefix in PREFIXES:
        if weights and all(name.startswith(prefix) for name in weights):
            log.info("%s: the prefix %r is taken off its names", path, prefix)
            weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    mine = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    if foreign is not None and weights.keys() != mine.keys():
        renamed = foreign(weights)
        if renamed.keys() != weights.keys():
            log.info("%s: its tensors' names are mapped to this network's", path)
            weights = renamed
    theirs = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    faults = [f"lacks {name}" for name in mine.keys() - theirs.keys()]
    faults += [f"has {name} too many" for name in theirs.keys() - mine.keys()]
    faults += [
        f"{name} is {theirs[name]} in the file and {shape} in the network"
        for name, shape in mine.items()
        if theirs.get(name, shape) != shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise ValueError(f"{path} doesn't fit: {'; '.join(sorted(faults)[:3])}{more}")
    network.load_state_dict(dict(weights))


def digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over names and bytes of a network's tensors."""
    total = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        total.update(name.encode())
        total.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def by_name(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimizer's state of each parameter, by the parameter's name."""
    return {
        name: optimizer.state[parameter]
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
    }


def load_by_name(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    """Gives each parameter the optimizer's state that was saved under its name."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    ordered = [p for group in optimizer.param_groups for p in group["params"]]
    numbered = {i: state[names[p]] for i, p in enumerate(ordered) if names[p] in state}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": numbered})
