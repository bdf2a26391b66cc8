"""A loop as it is written by hand, after PyTorch's tutorials: what kdframe is compared with.

Pillow images in a Dataset, torchvision's transforms on each, a DataLoader, NCHW tensors, a teacher
in eval mode under no_grad, torch.optim.SGD as it comes, and ``.item()`` in every step.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
import torch.utils.data
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler
from torchvision import transforms

from benchmarks.loops import is_small
from benchmarks.noise import CLASSES, MEAN, STD, noise
from kdframe.backbones import Backbone
from kdframe.datasets import Dataset
from kdframe.registry import BACKBONES

TEMPERATURE = 4.0


class Pictures(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """A split as torchvision's CIFAR10 holds it: arrays (H, W, 3), a Pillow image when asked."""

    def __init__(self, dataset: Dataset) -> None:
        images, targets = dataset.tensors() or (torch.empty(0), torch.empty(0))
        self.arrays = images.permute(0, 2, 3, 1).contiguous().numpy()
        self.targets = targets.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.arrays[i])), self.targets[i]


class PlainLoop:
    """Trains ``student``, which answers with logits, as ``teacher`` does."""

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        dataset: Dataset,
        batch: int,
        device: torch.device,
        workers: int = 0,
    ) -> None:
        self.student, self.teacher = student.to(device).train(), teacher.to(device).eval()
        self.pictures, self.batch, self.device = Pictures(dataset), batch, device
        self.workers = workers
        self.optimizer = torch.optim.SGD(
            self.student.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4
        )

    def batches(self, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Shuffled; a part of an epoch."""
        sampler = RandomSampler(self.pictures, num_samples=steps * self.batch)
        return iter(
            DataLoader(self.pictures, self.batch, sampler=sampler, num_workers=self.workers)
        )

    def train(self, steps: int) -> float:
        """That many steps; the mean loss."""
        running = 0.0
        for images, labels in self.batches(steps):
            images, labels = images.to(self.device), labels.to(self.device)
            self.optimizer.zero_grad()
            with torch.no_grad():
                taught = self.teacher(images)
            logits = self.student(images)
            soft = F.kl_div(
                F.log_softmax(logits / TEMPERATURE, dim=1),
                F.softmax(taught / TEMPERATURE, dim=1),
                reduction="batchmean",
            )
            loss = 0.1 * F.cross_entropy(logits, labels) + 0.9 * TEMPERATURE**2 * soft
            loss.backward()
            self.optimizer.step()
            running += loss.item()
        return running / steps


def by_hand(pair: str, batch: int, steps: int) -> Callable[[], float]:
    """That many steps of the loop on a CPU, with freshly drawn networks."""
    teacher, student = (drawn(name) for name in pair.split("-"))
    dataset = noise("train", train=10 * batch)
    loop = PlainLoop(student.network, teacher.network, dataset, batch, torch.device("cpu"))
    loop.teacher.train()
    with torch.no_grad():
        for images, _ in loop.batches(4):
            loop.teacher(images)
    loop.teacher.eval()
    return lambda: loop.train(steps)


def drawn(name: str) -> Backbone:
    """A network for small images."""
    small = {"small_input": True} if is_small(name) else {}
    backbone: Backbone = BACKBONES[name](CLASSES, **small)
    return backbone
