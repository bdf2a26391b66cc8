"""State to disk and back, whole or not at all."""

import argparse
import hashlib
import io
import json
import logging
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kdframe.writing import settle, write, write_json

log = logging.getLogger("kdframe")

MANIFEST = ("name", "size", "sha256", "step", "config")
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


def save(folder: Path, state: Mapping[str, Any], *, step: int, config: str, keep: int) -> Path:
    """Writes ``step_<n>.pt``, then its manifest, then removes all but the newest ``keep``.

    Raises:
        OSError: there is no room, say; what was there before stands.
    """
    if not folder.exists():
        folder.mkdir()
        settle(folder.parent)
    path = folder / f"step_{step}.pt"
    with own_checksums(not steps_in(folder)):  # the first has no other until its manifest is there
        size, sha256 = write(path, lambda sink: torch.save(state, cast(IO[bytes], sink)))
    manifest = {"name": path.name, "size": size, "sha256": sha256, "step": step, "config": config}
    write_json(path.with_suffix(".json"), manifest)
    remove_but_newest(folder, step, keep)
    return path


@contextmanager
def own_checksums(wanted: bool) -> Iterator[None]:
    """Whether torch.save computes CRC-32 beside our SHA-256, a third of its work."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(wanted)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)


def remove_but_newest(folder: Path, step: int, keep: int) -> None:
    """Keeps ``keep`` checkpoints up to ``step``, which is the newest.

    Later ones were passed over when the run was resumed, and those without a manifest are no
    checkpoints: neither may take the place of a whole one.
    """
    has_manifest = [n for n in steps_in(folder) if (folder / f"step_{n}.json").exists()]
    kept = [n for n in has_manifest if n <= step][:keep]
    for old in set(steps_in(folder)) - set(kept):
        (folder / f"step_{old}.json").unlink(missing_ok=True)  # first: it vouches for the other
        (folder / f"step_{old}.pt").unlink(missing_ok=True)
    settle(folder)


def newest(folder: Path) -> dict[str, Any] | None:
    """The state of the newest checkpoint that is whole; None if the folder holds none at all.

    What is passed over is named, with the reason.  Where no digest agrees, one whose manifest is
    missing will do if its own checksums hold: a run that died between the first two writes.

    Raises:
        NoCheckpoint: there are some, and each is broken.
    """
    steps = steps_in(folder)
    for step in steps:
        path = folder / f"step_{step}.pt"
        state, fault = examine(path, step)
        if state is not None:
            return state
        log.warning("%s is passed over: %s", path, fault)
    for step in steps:
        path = folder / f"step_{step}.pt"
        if not path.with_suffix(".json").exists() and holds_together(path):
            state, fault = load_state(path.read_bytes())
            if state is not None:
                log.warning("%s is taken: its save ended before its manifest was written", path)
                return state
            log.warning("%s is passed over: %s", path, fault)
    if steps:
        raise NoCheckpoint(f"{folder}: no checkpoint is whole; remove the folder to start anew.")
    return None


def steps_in(folder: Path) -> list[int]:
    """The steps of which a folder holds a checkpoint, or a part of one, newest first."""
    names = [re.fullmatch(r"step_(\d+)\.(pt|json)", path.name) for path in folder.glob("step_*")]
    return sorted({int(name[1]) for name in names if name}, reverse=True)


def examine(path: Path, step: int) -> tuple[dict[str, Any] | None, str]:
    """A checkpoint's state, or what is wrong with it: the bytes digested are those loaded."""
    try:
        said = json.loads(path.with_suffix(".json").read_bytes())
        name, size, sha256, at, config = (said[key] for key in MANIFEST)
    except FileNotFoundError:
        return None, "its manifest is missing"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None, "its manifest can't be read"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None, "its file is missing"
    except OSError as error:
        return None, f"its file can't be read: {error.strerror}"
    if len(data) != size:
        return None, f"it has {len(data)} bytes instead of {size}"
    if hashlib.sha256(data).hexdigest() != sha256:
        return None, "its digest differs"
    state, fault = load_state(data)
    if state is None:
        return None, fault
    about = (path.name, step, step, state.get("config", config))
    if (name, at, state.get("step"), config) != about:
        return None, "its manifest is of another checkpoint"
    return state, ""


def load_state(data: bytes) -> tuple[dict[str, Any] | None, str]:
    """A checkpoint's content, tensors and plain values alone, or what is wrong with it."""
    try:
        state = plain(io.BytesIO(data))
    except Exception as error:  # torch raises nearly anything for what isn't its own
        return None, f"it holds no state of a run ({type(error).__name__})"
    return (state, "") if isinstance(state, dict) else (None, "it holds no state of a run")


def plain(file: Path | io.BytesIO) -> Any:
    """Tensors and plain values alone, whatever the environment says of ``weights_only``.

    What torch would warn of in a file that it then refuses is told by the refusal.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(file, map_location="cpu", weights_only=True)


def holds_together(path: Path) -> bool:
    """Whether the checksums that torch.save put into a file are those of its content."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError):
        return False


def save_weights(path: Path, weights: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Writes a network's tensors as safetensors, with ``about`` (JSON-able) in its header."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    header = {ABOUT: json.dumps(about)}  # one entry: safetensors writes several in any order
    write(path, lambda sink: sink.write(safetensors.torch.save(tensors, header)))


def renewed(path: Path, sha256: str, about: Mapping[str, Any]) -> bool:
    """Whether a file holds the weights of that ``digest``; its header then says ``about``."""
    try:
        weights, before = load_weights(path)
    except (OSError, ValueError):
        return False
    if (same := digest(weights) == sha256) and before != about:
        save_weights(path, weights, about)
    return same


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
            content = safetensors.torch.load_file(path)
        except (SafetensorError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} is no whole safetensors file ({error})") from error
        if not all(map(is_weight, content, content.values())):
            raise ValueError(f"{path} holds something other than real numbers")
        return content, about if isinstance(about, dict) else {}
    try:
        with torch.serialization.safe_globals(HARMLESS):
            content = plain(path)
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
    for prefix in 2 * PREFIXES:  # one may stand before the other
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


def shared_of(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What an optimizer keeps for no parameter alone: counts of steps, a generator's state."""
    kept = {key: value for key, value in optimizer.state_dict().items() if key != "state"}
    groups = [{k: v for k, v in g.items() if k != "params"} for g in kept["param_groups"]]
    return {**kept, "param_groups": groups}


def load_by_name(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    shared: dict[str, Any],
) -> None:
    """Gives each parameter the state that was saved under its name, and each group its own."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    ordered = [p for group in optimizer.param_groups for p in group["params"]]
    numbered = {i: state[names[p]] for i, p in enumerate(ordered) if names[p] in state}
    mine = optimizer.state_dict()["param_groups"]
    groups = [{**new, **old} for new, old in zip(mine, shared["param_groups"], strict=True)]
    optimizer.load_state_dict({**shared, "state": numbered, "param_groups": groups})
