"""Batches: order and placement, as pure functions of (seed, epoch, item)."""

import atexit
import errno
import hashlib
import multiprocessing
import multiprocessing.queues
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from kdframe.augmentation import Stream, crop_flip, hashed, strong
from kdframe.datasets import Batch, Dataset
from kdframe.signals import WATCHED

AUGMENT = ("none", "crop_flip", "resized_crop")
EVALUATION = -1  # stands for the epoch
GAVE_OUT = (errno.EMFILE, errno.ENOSPC, errno.ENOMEM)  # a worker's exit codes
LINUX = sys.platform == "linux"  # where a fork is safe; from Python 3.14 on, not the default
ORDER = -1  # the draw; augmentation's count from 0


class Loader:
    """Batches of some items of a dataset, on a device.

    Sets that hand out ``tensors()`` live on the device, or in memory where that has no room for
    them; others, and all under ``resized_crop`` (which cuts from whole images), are read by
    ``workers`` processes, or by this one if 0.  Workers live for a pass: with a fork, which is
    asked for where there is one, they are there in a tenth of a second.

    Args:
        items: (N,) numbers of the images in their split.
        augment: what ``train`` does to an image: none, crop_flip or resized_crop.

    Raises:
        ValueError: another ``augment``.
    """

    def __init__(
        self,
        dataset: Dataset,
        items: Tensor,
        *,
        device: torch.device,
        augment: str = "none",
        seed: int = 0,
        workers: int = 0,
        channels_last: bool = True,
    ) -> None:
        if augment not in AUGMENT:
            raise ValueError(f"augment takes {', '.join(AUGMENT)}, not {augment!r}.")
        self.device, self.augment, self.seed, self.workers = device, augment, seed, workers
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.mean = torch.tensor(dataset.mean, device=device).view(3, 1, 1)
        self.std = torch.tensor(dataset.std, device=device).view(3, 1, 1)
        self.stream = Stream(dataset, augment == "resized_crop", seed)
        self.items = self.rows = items
        self.resident = None if augment == "resized_crop" else dataset.tensors()
        # on a CPU two loaders of a split hold it once, together
        if self.resident and self.fits(self.resident[0]):
            images, targets = self.resident
            self.resident = images[items].to(device), targets[items].to(device)
            self.items, self.rows = items.to(device), torch.arange(len(items), device=device)

    def __len__(self) -> int:
        return len(self.items)

    def labels(self) -> Tensor:
        """The class of every image of the split by its number, -1 where it isn't one of these."""
        known, items = self.stream.dataset.labels(), self.items.cpu()
        labels = torch.full_like(known, -1)
        labels[items] = known[items]
        return labels

    @property
    def rows_in_split(self) -> int:
        """Images in the whole split."""
        return len(self.stream.dataset)

    def fingerprint(self) -> str:
        """A hash of what the images are: of their bytes where they are in memory."""
        total = hashlib.sha256(self.labels().numpy().tobytes())
        if self.resident:
            total.update(self.resident[0].cpu().numpy().tobytes())
        else:
            total.update(self.stream.dataset.identity().encode())
        return total.hexdigest()

    def steps(self, batch_size: int) -> int:
        """Steps of an epoch; the remainder is dropped.

        Raises:
            ValueError: a batch takes more images than there are.
        """
        if batch_size > len(self):
            raise ValueError(f"a batch of {batch_size} takes more than the {len(self)} images.")
        return len(self) // batch_size

    def train(
        self,
        epoch: int,
        batch_size: int,
        first: int = 0,
        rank: int = 0,
        world: int = 1,
        views: bool = False,
        augmented_as: int | None = None,
        stop: int | None = None,
    ) -> Iterator[Batch]:
        """An epoch's batches from step ``first`` on (before ``stop``), shuffled and augmented.

        ``batch_size`` is that of all ``world`` processes; each gets an equal part of every batch.
        With ``views``, ``view`` is a stronger augmentation of the augmented images.
        ``augmented_as`` is an earlier epoch whose augmentation comes again.

        Raises:
            ValueError: a batch that is too large, or can't be cut into equal parts.
        """
        drawn = epoch if augmented_as is None else augmented_as
        steps, (part, rest) = self.steps(batch_size), divmod(batch_size, world)
        if rest:
            raise ValueError(f"a batch of {batch_size} can't be cut into {world} equal parts.")
        shuffled = order(len(self), self.seed, epoch).to(self.items.device)
        starts = [step * batch_size + rank * part for step in range(steps)[first:stop]]
        parts = [shuffled[start : start + part] for start in starts]
        step = first  # counted here: enumerate would hold the raw images during the step
        for image, target, item in self.raw(parts, drawn):
            if self.augment == "crop_flip":
                image = crop_flip(image, self.seed, drawn, item)
            view = self.normalised(strong(image, self.seed, drawn, item)) if views else None
            image = self.normalised(image)
            yield Batch(image, target, item, epoch + step / steps, view)
            step += 1

    def plan(self, epoch: int, batch_size: int) -> Tensor:
        """The images of each step of an epoch, by their number: (steps, B), on the CPU."""
        count = self.steps(batch_size) * batch_size
        shuffled = order(len(self), self.seed, epoch)[:count]
        return self.items.cpu()[shuffled].view(-1, batch_size)

    def first(self, batch_size: int, rank: int = 0, world: int = 1) -> Batch:
        """The first batch of the first epoch, whatever else is read by then."""
        return next(self.train(0, batch_size, 0, rank, world, stop=1))

    def all(self, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Every image once over all processes, in order and not augmented; the last may be few."""
        places = torch.arange(len(self), device=self.items.device)
        batches = (places[i : i + batch_size] for i in range(0, len(self), batch_size))
        parts = [part for batch in batches if len(part := batch.tensor_split(world)[rank])]
        for image, target, item in self.raw(parts, EVALUATION):
            yield Batch(self.normalised(image), target, item, 0.0)

    def raw(self, parts: list[Tensor], epoch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """uint8 images, targets and items on the device; a part is places in ``self.items``."""
        if self.resident:
            images, targets = self.resident
            for part in parts:
                rows = self.rows[part]
                yield (  # a name for one of them would hold it during the step
                    images.index_select(0, rows).to(self.device),
                    targets[rows].to(self.device),
                    self.items[part].to(self.device),
                )
            return
        picks = [(self.items[part].tolist(), epoch) for part in parts]
        loader = DataLoader(
            self.stream,
            batch_size=None,
            sampler=picks,
            num_workers=(workers := min(self.workers, len(picks))),
            multiprocessing_context="fork" if workers and LINUX else None,
            worker_init_fn=settle_worker,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # leaves the global one as it is
        )
        with ending_what_was_started():
            batches = iter(loader)
        end = getattr(batches, "_shutdown_workers", lambda: None)  # not there without workers
        atexit.register(end)  # multiprocessing would send a SIGTERM, which they ignore, and wait
        try:
            for (items, _), (image, target) in zip(picks, batches, strict=True):
                columns = (image, target, torch.tensor(items))
                image, target, item = (c.to(self.device, non_blocking=True) for c in columns)
                yield image, target, item
        except RuntimeError as error:
            raise_fault(error, getattr(batches, "_workers", ()))
            raise
        finally:
            atexit.unregister(end)
            end()

    def normalised(self, image: Tensor) -> Tensor:
        """float32 (x / 255 - mean) / std of uint8 images (B, 3, H, W)."""
        image = image.float().div_(255).sub_(self.mean).div_(self.std)
        return image.contiguous(memory_format=self.layout)

    def describe(self) -> str:
        """How many images there are, where, and why there."""
        dataset = self.stream.dataset
        if self.resident:
            images = self.resident[0]
            size = len(self) * images[0].numel() / 1e6
            most = f" of at most {dataset.room / 1e6:,.0f}" if dataset.room else ""
            return f"{len(self):,} images resident on {images.device} ({size:,.1f} MB{most})"
        workers = {0: "this process", 1: "1 worker"}.get(self.workers, f"{self.workers} workers")
        why, size = "", len(dataset) * 3 * dataset.size[0] * dataset.size[1]
        if self.stream.whole:
            why = ": resized_crop cuts from whole images"
        elif dataset.room is not None and size > dataset.room:
            why = f": {size / 1e6:,.0f} MB would not fit in {dataset.room / 1e6:,.0f} MB"
        return f"{len(self):,} images streamed by {workers}{why}"

    def fits(self, images: Tensor) -> bool:
        """Whether these items' images take at most a quarter of an accelerator's free memory."""
        if self.device.type != "cuda":
            return self.device.type != "cpu"
        free: int = torch.cuda.mem_get_info(self.device)[0]
        return len(self.items) * images[0].numel() <= free // 4


def order(count: int, seed: int, epoch: int) -> Tensor:
    """A permutation of 0 ... count - 1."""
    return hashed(seed, epoch, torch.arange(count), ORDER).argsort(stable=True)


def hold_out(count: int, val: float) -> tuple[Tensor, Tensor]:
    """The items to train on and those to validate on, the same for every run, both ascending.

    ``val`` is a fraction below 1, a number of images from 1 on; 0 holds out none.

    Raises:
        ValueError: a part of an image; or nothing is left on one side.
    """
    held = round(count * val) if val < 1 else int(val)
    if val < 0 or (val >= 1 and val != held) or held >= count or (val > 0 and held == 0):
        raise ValueError(
            f"VAL {val:g} of {count} images leaves none on one side; it takes a fraction "
            "below 1 or a whole number of images."
        )
    shuffled = order(count, 0, EVALUATION)
    return shuffled[held:].sort().values, shuffled[:held].sort().values


def settle_worker(worker: int) -> None:
    """Leaves signals to the main process, which still wants batches from its workers.

    A batch that can't be handed over ends the worker: the main process would wait for it for ever.
    """
    for number in WATCHED:
        signal.signal(number, signal.SIG_IGN)
    queue: Any = multiprocessing.queues.Queue
    queue._on_queue_feeder_error = staticmethod(give_up)
    sys.excepthook = lambda kind, error, where: give_up(error)  # of the thread that hands over


def give_up(error: BaseException, batch: object = None) -> None:
    """Ends this worker; its exit code is the errno of what gave out, for ``exit_codes`` to tell."""
    said = str(error)
    for number in GAVE_OUT:
        if getattr(error, "errno", 0) == number or os.strerror(number) in said:
            os._exit(number)
    print(f"a worker can't hand over its batch: {said}", file=sys.stderr, flush=True)
    os._exit(1)


def raise_fault(error: RuntimeError, workers: Iterable[Any]) -> None:
    """Says what a worker gave up for, where the error says no more than that it is gone."""
    for number in GAVE_OUT:
        if any(worker.exitcode == number for worker in workers):
            raise RuntimeError(f"a worker exited unexpectedly with exit code {number}") from error


@contextmanager
def ending_what_was_started() -> Iterator[None]:
    """Ends workers that are there already when not all of them could be started.

    They ignore SIGTERM, so that the end of the main process would wait for them for ever.
    """
    before = set(multiprocessing.active_children())
    try:
        yield
    except OSError as error:
        for worker in set(multiprocessing.active_children()) - before:
            worker.kill()
        if error.errno == errno.ENOSPC:  # the queues' semaphores lie in memory, not on a disk
            raise RuntimeError("unable to allocate shared memory") from error
        raise
