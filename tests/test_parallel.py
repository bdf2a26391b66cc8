"""Two real processes: what is gathered, and that a term of the global batch gives its gradient."""

import subprocess
import sys

import torch
from torch import nn

from kdframe import parallel
from kdframe.registry import BACKBONES

SCRIPT = """
import os
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from kdframe import parallel
from kdframe.backbones import Backbone, Output
from kdframe.datasets import Batch
from kdframe.distillation import Distillation, Term
from kdframe.registry import DISTILLERS

parallel.start("cpu")
rank = parallel.rank()

x = torch.full((2, 3), float(rank + 1), requires_grad=True)
rows = parallel.gathered(x)
assert rows[:, 0].tolist() == [1, 1, 2, 2]
(rows * torch.arange(12.0).view(4, 3)).sum().backward()  # on both processes: twice the gradient
assert torch.equal(x.grad, 2 * torch.arange(12.0).view(4, 3)[2 * rank : 2 * rank + 2])


def backbone():
    def answer(network, image):
        feature = network[0](image)
        embedding = feature.mean(dim=(2, 3))
        return Output(network[1](embedding), embedding, [image, feature])

    return Backbone(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 5)), answer)


def gradients(wrapped, batch):
    loss, _ = wrapped(batch)
    loss.backward()
    model = getattr(wrapped, "module", wrapped)
    found = [p.grad for p in model.parameters() if p.grad is not None]
    model.zero_grad(set_to_none=True)
    return loss.detach(), found


class Learns(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.adapter = torch.nn.Linear(4, 4)

    def forward(self, student, teacher, batch):
        assert len(batch.target) == len(student.logits) == 8
        gram = self.adapter(student.embedding) @ teacher.embedding.T
        return (gram - torch.eye(8)).square().mean() + 0 * batch.target.sum()


torch.manual_seed(0)
terms = [
    Term("sp", DISTILLERS["sp"], needs=frozenset({"global_batch"})),
    Term("learns", Learns(), needs=frozenset({"global_batch"})),
]
model = Distillation(backbone(), backbone(), terms)
batch = Batch(torch.randn(8, 3, 8, 8), torch.arange(8) % 5, torch.arange(8), 0.0)
mine = Batch(*(c[4 * rank : 4 * rank + 4] for c in batch[:3]), 0.0)

loss, split = gradients(DistributedDataParallel(model, find_unused_parameters=True), mine)
torch.distributed.barrier()
real, parallel.world = parallel.world, lambda: 1  # as if alone
alone, whole = gradients(model, batch)
parallel.world = real
torch.testing.assert_close(loss, alone)
for one, other in zip(split, whole, strict=True):
    torch.testing.assert_close(one, other)

if rank:
    with torch.no_grad():
        model.learned["learns"].adapter.weight.zero_()
parallel.like_first(model)
assert model.learned["learns"].adapter.weight.any()
own = sorted(os.sched_getaffinity(0))[-1]
for task in Path("/proc/self/task").glob("*"):
    os.sched_setaffinity(int(task.name), {own})
    if "gloo_run" in (task / "comm").read_text():  # late for whatever it does from now on
        os.sched_setscheduler(int(task.name), os.SCHED_IDLE, os.sched_param(0))
print("whole", flush=True)
for _ in range(3):
    parallel.largest(0)
parallel.finish()
"""


def test_two_processes_have_the_gradient_of_the_whole_batch(tmp_path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*command, "--nproc-per-node", "2", str(script)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("whole") == 2


def test_synchronised_norms_keep_their_activations() -> None:
    """Those of Wide ResNets and of many families of timm's are in the norms."""
    network = BACKBONES["wrn_16_1"](4).eval()
    image = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = network(image).logits
        parallel.sync_batchnorm(network)
        assert any(isinstance(layer, nn.SyncBatchNorm) for layer in network.modules())
        assert torch.equal(network.eval()(image).logits, before)


def test_float32_is_no_tf32_for_whoever_asks_for_a_device() -> None:
    """A report's networks as those of a run."""
    switches = torch.backends.cuda.matmul, torch.backends.cudnn
    for switch in switches:
        switch.allow_tf32 = True
    parallel.start("cpu")
    assert not any(switch.allow_tf32 for switch in switches)
