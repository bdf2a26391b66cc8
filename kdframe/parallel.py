"""The little that several processes need; with one process, everything here does nothing."""

import ctypes
import os
import signal
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kdframe.exit_codes import several

T = TypeVar("T")

PR_SET_PDEATHSIG = 1  # Linux's prctl.h
LONGEST_REST = 30.0  # seconds that gloo's threads may take to come to rest


def start(device: str, timeout: float = 30.0) -> torch.device:
    """Joins the processes that torchrun started, and returns this one's device; float32 is that
    there, not TF32.

    Args:
        device: auto, cpu, cuda or mps; auto takes cuda where there is one.
        timeout: the longest that one process waits for another, in minutes.

    Raises:
        ValueError: a device that this machine doesn't have.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    missing = (device == "cuda" and not torch.cuda.is_available()) or (
        device == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise ValueError(f"this machine has no {device}; auto and cpu work.")
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        device = f"cuda:{torch.cuda.current_device()}"
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    if several() and not dist.is_initialized():
        end_with_parent()
        backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
        # waits for the others, where no handler of ours runs: torchrun's SIGTERM ends it
        before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
        dist.init_process_group(backend, timeout=timedelta(minutes=timeout))
        signal.signal(signal.SIGTERM, before)
    return torch.device(device)


def end_with_parent() -> None:
    """Has the kernel send SIGTERM to this process when torchrun is killed; on Linux alone."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def finish() -> None:
    """Leaves the group of processes.

    DistributedDataParallel keeps the destroyed group and its threads alive.  One that lets go of a
    collective's tensors while the interpreter ends kills the process: terminate, without an
    exception (PyTorch's issue 190489).  So they come to rest first.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
        until, rested = time.monotonic() + LONGEST_REST, 0
        while rested < 3 and time.monotonic() < until:
            time.sleep(0.001)  # without the interpreter's lock: they may wait for it
            rested = 0 if any(map(is_running, Path("/proc/self/task").glob("*"))) else rested + 1


def is_running(task: Path) -> bool:
    """Whether a thread is gloo's and has something to do; never known but on Linux."""
    try:
        name, _, state = (task / "stat").read_text().rpartition(") ")
    except OSError:  # it has ended since it was listed
        return False
    return "gloo" in name and state.startswith("R")


def rank() -> int:
    """This process's number; 0 writes files and talks."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_world() -> int:
    """How many of the processes are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world()))


def summed(x: Tensor) -> Tensor:
    """The sum of ``x`` over the processes, on each of them."""
    if world() > 1:
        x = x.clone()
        dist.all_reduce(x)
    return x


class Gather(torch.autograd.Function):
    """Rows of all processes; each process's gradient counts for the rows' own process."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(world())]
        dist.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return summed(gradient).chunk(world())[rank()]


def gathered(x: Tensor) -> Tensor:
    """The rows of ``x`` of all processes, in their order, on each of them; differentiable.

    With a loss of the gathered rows on every process and DistributedDataParallel's mean over
    processes, a gradient is that of the loss of the whole batch.
    """
    rows: Tensor = Gather.apply(x.contiguous()) if world() > 1 else x
    return rows


def largest(x: int) -> int:
    """The largest ``x`` of all processes, without waiting for an accelerator."""
    if world() > 1:
        value = torch.tensor(x)
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return int(value)
    return x


def wrapped(model: nn.Module, device: torch.device, alike: Sequence[str]) -> nn.Module:
    """The model, whose backward pass leaves the mean of all processes' gradients.

    ``alike`` names buffers that every process fills with the same rows, as a term's bank: they
    needn't be sent in every step.
    """
    if world() == 1:
        return model
    ids = [device.index] if device.type == "cuda" else None
    wrap: Any = DistributedDataParallel
    wrap._set_params_and_buffers_to_ignore_for_model(model, alike)
    ready: nn.Module = wrap(model, ids, find_unused_parameters=True, gradient_as_bucket_view=True)
    return ready


def sync_batchnorm(model: nn.Module) -> None:
    """Has BatchNorm take its statistics of all processes' images; activations in it stay."""
    convert_sync_batchnorm(model)  # timm's: torch's would drop those of timm's BatchNormAct2d


def unsynced(model: nn.Module) -> AbstractContextManager[None]:
    """Gradients of all but the last part of a step stay with their process."""
    if isinstance(model, DistributedDataParallel):
        no_sync: AbstractContextManager[None] = model.no_sync()
        return no_sync
    return nullcontext()


def like_first(module: nn.Module) -> None:
    """Gives a module process 0's parameters and buffers."""
    if world() > 1:
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor.detach(), 0)


def wait() -> None:
    """Until every process is here."""
    if world() > 1:
        dist.barrier()


def from_first(x: T) -> T:
    """Process 0's ``x``, on each of them."""
    if world() > 1:
        box = [x]
        dist.broadcast_object_list(box)
        return box[0]
    return x
