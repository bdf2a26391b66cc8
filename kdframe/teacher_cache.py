"""A teacher's answers, kept on disk: logits and embedding for every image of every epoch."""

import hashlib
import json
import logging
import mmap
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdframe import parallel
from kdframe.backbones import Output
from kdframe.datasets import Batch
from kdframe.writing import clear_strays, temporary_of, write_json

log = logging.getLogger("kdframe")

HOME = Path("runs", "teacher_cache")
TYPES = {"fp32": torch.float32, "fp16": torch.float16}
RESIDENT = 4 * 2**30  # bytes of a part that an accelerator holds
CHUNK = 2**24  # bytes that are digested at once


class NotKept(list[Tensor]):
    """Stands for the feature maps, which are not kept; a term that looks at them is told."""

    def refuse(self, *_: Any) -> Any:
        raise ValueError("it looks at the teacher's feature maps, and TEACHER.CACHE keeps none.")

    __getitem__ = __iter__ = __len__ = refuse


def without_maps(output: Output) -> Output:
    """What the cache can hand out of an Output."""
    return output._replace(features=NotKept())


class TeacherCache:
    """The answers of one teacher to one set of views; a part is an epoch of views.

    A part is a file of ``rows`` x (K + C) numbers, a row an image by its number in the split, and a
    byte a row that says whether it is there.  It is written under a name of its own, digested and
    renamed when its epoch ends; the manifest beside it comes last.  A part without a manifest, or
    with another digest, is never read: it is made anew.  Several runs may write at once, each its
    own file, and the last one stays: they are alike.

    Args:
        folder: of these answers alone: named by a hash of all that they depend on.
        rows: images in the split.
        classes: K.
        width: C, the embedding's.
        kind: fp32 or fp16.
        epochs: views are those of ``epoch % epochs``; 0: every epoch has its own.
        device: where batches are.
        about: what the manifest says of the run that wrote a part.
    """

    def __init__(
        self,
        folder: Path,
        *,
        rows: int,
        classes: int,
        width: int,
        kind: str,
        epochs: int,
        device: torch.device,
        about: Mapping[str, Any],
    ) -> None:
        self.folder, self.rows, self.classes, self.width = folder, rows, classes, width
        self.dtype, self.epochs, self.device, self.about = TYPES[kind], epochs, device, dict(about)
        self.temporary: Path | None = None
        self.table: Tensor | None = None
        self.seen: Tensor | None = None
        self.served: list[bool] = []
        self.told = False

    @property
    def bytes(self) -> int:
        """Of one part."""
        return self.rows * ((self.classes + self.width) * self.dtype.itemsize + 1)

    def view(self, epoch: int) -> int:
        """The epoch whose views are seen in ``epoch``."""
        return epoch % self.epochs if self.epochs else epoch

    def describe(self, epochs: int) -> str:
        """Where, and how large it will be after ``epochs``."""
        parts = min(self.epochs or epochs, epochs)
        return (
            f"{self.folder}: {self.rows:,} images x ({self.classes} + {self.width}) numbers of "
            f"{8 * self.dtype.itemsize} bits, {self.bytes / 1e6:,.1f} MB a part, "
            f"{parts * self.bytes / 1e6:,.1f} MB in {parts} parts"
        )

    @contextmanager
    def epoch(self, epoch: int, items: Tensor, whole: bool) -> Iterator[None]:
        """Opens the part of an epoch, and writes it where it lacks some of the epoch's images.

        Args:
            epoch: of the training.
            items: (steps, B) the images of each step, of all processes, on the CPU.
            whole: the epoch is gone through from its start; otherwise nothing is written.
        """
        try:
            self.begin(epoch, items, whole)
            yield
            self.finish(items)
        finally:
            self.drop()

    def begin(self, epoch: int, items: Tensor, whole: bool) -> None:
        """Opens or starts a part."""
        path = self.folder / f"epoch_{self.view(epoch)}.bin"
        there = parallel.from_first(self.is_whole(path))
        if there:
            self.table, self.seen = self.mapped(path, "c")
        self.served = self.seen[items].all(dim=1).tolist() if self.seen is not None else []
        if whole and not (self.served and all(self.served)):
            self.start(path, there)
        elif self.table is not None and self.bytes <= RESIDENT:
            self.table = self.table.to(self.device)  # on a CPU it stays the mapped file

    def recall(self, batch: Batch) -> Output | None:
        """The kept answer to a batch of this epoch; None where it isn't there."""
        step = round(batch.epoch % 1 * len(self.served))
        if self.table is None or not self.served or not self.served[step]:
            return None
        return self.output(self.table[batch.item.to(self.table.device)])

    def keep(self, batch: Batch, output: Output) -> Output:
        """Keeps an answer, and gives it back as it will be recalled."""
        rows = torch.cat((output.logits, output.embedding), dim=1).to(self.dtype)
        if self.temporary is not None and self.table is not None and self.seen is not None:
            item = batch.item.to(self.table.device)
            self.table[item] = rows.to(self.table.device)
            self.seen[item] = True
        return self.output(rows)

    def output(self, rows: Tensor) -> Output:
        """Rows as an Output without maps."""
        rows = rows.to(self.device).float()
        logits, embedding = rows[:, : self.classes], rows[:, self.classes :]
        return Output(logits.contiguous(), embedding.contiguous(), NotKept())

    def finish(self, items: Tensor) -> None:
        """Makes the part whole if all of its epoch's images are there, else forgets it."""
        if self.temporary is not None and self.seen is not None:
            parallel.wait()
            if parallel.rank() == 0 and bool(self.seen[items].all()):
                self.publish(self.temporary)
            parallel.wait()

    def drop(self) -> None:
        """Closes what is open; a part that was being written is gone."""
        if self.temporary is not None and parallel.rank() == 0:
            self.temporary.unlink(missing_ok=True)
        self.temporary = self.table = self.seen = None
        self.served = []

    def start(self, path: Path, there: bool) -> None:
        """Begins a part, from the one that is there if need be; says so where the disk is full."""
        temporary = path.with_name(parallel.from_first(temporary_of(path).name))
        fault = ""
        if parallel.rank() == 0:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                clear_strays(self.folder)
                reserve(temporary, self.bytes)  # or a full disk would end the process by a signal
                if there:
                    shutil.copyfile(path, temporary)
            except OSError as error:
                temporary.unlink(missing_ok=True)
                fault = str(error)
        if fault := parallel.from_first(fault):
            if not self.told:
                log.warning("%s: no answers are kept: %s", self.folder, fault)
            self.told = True
            return
        self.temporary = temporary
        self.table, self.seen = self.mapped(temporary, "r+")

    def mapped(self, path: Path, mode: Any) -> tuple[Tensor, Tensor]:
        """A file's table (rows, K + C) and its column of what is there (rows,)."""
        data = torch.from_numpy(np.memmap(path, np.uint8, mode, shape=(self.bytes,)))
        table, seen = data[: -self.rows], data[-self.rows :]
        return table.view(self.dtype).view(self.rows, -1), seen.view(torch.bool)

    def publish(self, temporary: Path) -> None:
        """Digests and renames a part, and writes its manifest."""
        path = temporary.with_name(".".join(temporary.name.split(".")[1:3]))
        with temporary.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
            content.flush()
            os.fsync(file.fileno())
            sha256 = digest(content)
        temporary.replace(path)
        manifest = {"size": self.bytes, "sha256": sha256, **self.about}
        write_json(path.with_suffix(".json"), manifest)
        self.temporary = None

    def is_whole(self, path: Path) -> bool:
        """Whether a part is there and is what its manifest says; tells of one made otherwise."""
        if parallel.rank():
            return False  # the first process looks for all
        try:
            said = json.loads(path.with_suffix(".json").read_text())
            with (
                path.open("rb") as file,
                mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content,
            ):
                fits: bool = len(content) == said["size"] == self.bytes
                whole = fits and digest(content) == said["sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            return False
        others = {k: said.get(k) for k, v in self.about.items() if said.get(k) != v}
        if whole and others and not self.told:
            self.told = True
            log.info(
                "teacher's answers are from a run with %s: equal to this one's to rounding",
                ", ".join(f"{k} {v}" for k, v in others.items()),
            )
        return whole


def reserve(path: Path, size: int) -> None:
    """Makes a file of zeros with its room on disk taken.

    Raises:
        OSError: there isn't room.
    """
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
            return
        for piece in pieces(size):  # macOS hasn't that
            file.write(bytes(min(piece.stop, size) - piece.start))


def digest(content: mmap.mmap) -> str:
    """SHA-256 of a mapped file."""
    total = hashlib.sha256()
    for piece in pieces(len(content)):
        total.update(content[piece])
    return total.hexdigest()


def pieces(size: int) -> Iterator[slice]:
    """Slices of at most ``CHUNK``."""
    return (slice(start, start + CHUNK) for start in range(0, size, CHUNK))
