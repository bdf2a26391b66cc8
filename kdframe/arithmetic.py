"""How networks compute: half precision, how far it is from float32, and compilation."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from kdframe import parallel
from kdframe.datasets import Batch
from kdframe.distillation import Distillation
from kdframe.hooks import Hook
from kdframe.plan import seed_of

if TYPE_CHECKING:
    from kdframe.trainer import Trainer

log = logging.getLogger("kdframe")

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
INSTRUCTIONS = {"avx512_bf16", "amx_bf16", "bf16"}  # as Linux names them; bf16: ARM's


def dtype_on(precision: str, device: torch.device) -> torch.dtype:
    """fp32, bf16 or fp16 as torch's type.

    Raises:
        ValueError: a CPU that lacks its instructions: it would emulate them, slower than fp32.
    """
    if device.type == "cpu" and precision == "fp16":
        raise ValueError("fp16 needs an accelerator; a CPU takes bf16 or fp32.")
    if device.type == "cpu" and precision == "bf16" and not INSTRUCTIONS & cpu_flags():
        raise ValueError(
            "bf16 needs a CPU with AVX512_BF16 or AMX, which this one hasn't; use fp32."
        )
    return PRECISIONS[precision]


def cpu_flags() -> set[str]:
    """What the CPU can do, in Linux's words; nothing is known elsewhere.

    torch has a name for each such question, and changes it from release to release.
    """
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    said = [line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))]
    return set(" ".join(said[:1]).split())


class FirstLoss(Hook):
    """Says before step 0 how far the loss of that step is from float32's, on every process."""

    def before_train(self, trainer: Trainer) -> None:
        half, plan = trainer.plan.precision, trainer.plan
        if trainer.step or half == torch.float32:
            return
        views = any("views" in term.needs for term in trainer.model.terms if term.was_on(0))
        batches = trainer.train_loader.train(
            0, plan.batch_size, 0, parallel.rank(), parallel.world(), views
        )
        batch, seed = next(batches), seed_of(plan.seed, 0, parallel.rank())
        found, exact = (
            loss_in(precision, trainer.model, batch, plan.accumulate, seed)
            for precision in (half, torch.float32)
        )
        name = next(name for name, dtype in PRECISIONS.items() if dtype == half)
        log.info(
            "%s     the first step's loss is %.6g, and %.6g in fp32: %.2g %% apart",
            *(name, found, exact, 100 * abs(found - exact) / abs(exact) if exact else 0.0),
        )


def loss_in(
    precision: torch.dtype, model: Distillation, batch: Batch, accumulate: int, seed: int
) -> float:
    """The loss of a step's batch in another precision, the mean over all processes.

    A copy answers, without gradient and never compiled: nothing of the model changes.  The step's
    draws begin at ``seed``.
    """
    one = copy.deepcopy(model)
    if precision != one.precision:
        one.precision = precision
        one.unfold()
    one.train()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):  # an accelerator's: seeded every step
        torch.manual_seed(seed)
        mean = torch.stack([one(part)[0] for part in batch.parts(accumulate)]).mean()
    return (parallel.summed(mean) / parallel.world()).item()


def compiling(device: torch.device, learns: bool = True) -> dict[str, Any]:
    """How a network is compiled: for each shape anew; on CUDA with graphs, if it learns.

    Training's batches have one shape.  Evaluation's last has another, and evaluation holds the
    answers of several networks at once, which graphs would overwrite: it asks what isn't compiled.
    A frozen teacher's, which no backward pass waits for, the student's graphs would overwrite
    (torch.compiler.cudagraph_mark_step_begin).
    """
    graphs = {"mode": "reduce-overhead"} if device.type == "cuda" and learns else {}
    return {"dynamic": False, **graphs}
