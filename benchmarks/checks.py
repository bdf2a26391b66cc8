"""What it costs to know in every step that loss and gradient are finite."""

from torch import Tensor, nn

from benchmarks.clock import Work
from kdframe.trainer import Trainer


def checks(trainer: Trainer) -> Work:
    """A step's checks of its loss and its gradients, which are there."""
    loss, _ = trainer.model(trainer.train_loader.first(trainer.batch_size))
    loss.backward()
    held: list[tuple[nn.Parameter, Tensor]] = [
        (p, p.grad) for p in trainer.model.parameters() if p.grad is not None
    ]
    loss, sums, watch = loss.detach(), trainer.no_sums(), trainer.watch

    def work() -> None:
        for p, gradient in held:
            p.grad = gradient
        for step in range(watch.every):
            watch.see(step, loss, watch.clip(trainer.optimizer, 0.0))
        watch.check(watch.every, sums)
        trainer.optimizer.zero_grad(set_to_none=True)

    return work
