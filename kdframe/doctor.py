"""What a machine offers a run, and what would stop one there; no config is needed for it."""

import os
import platform
import resource
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import NamedTuple

import torch
from packaging.requirements import Requirement

from kdframe import __version__
from kdframe.arithmetic import PRECISIONS, cpu_flags, dtype_on
from kdframe.datasets.images import MEMINFO

FOLDERS = ("runs", "datasets")  # of the working folder
ROOM = 2 * 2**30  # bytes of disk below which a run may not end
FILES = 1024  # open at once: workers, their pipes, event files
SHM = Path("/dev/shm")
LEAST_SHM = 2**29  # bytes; containers have 64 MB unless told otherwise
CGROUPS = (  # a container's folder, its limit, what is used, and what of that is cache
    ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    (
        "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)  # fmt: skip


class Finding(NamedTuple):
    """One line of the doctor's."""

    level: str  # ok, warning or error
    about: str
    said: str
    todo: str = ""

    def __str__(self) -> str:
        todo = f"; {self.todo}" if self.todo else ""
        return f"{self.level:8} {self.about:14} {self.said}{todo}"


def machine() -> Iterator[Finding]:
    """All that can be said without a config."""
    yield from packages()
    yield processor()
    yield threads()
    yield from accelerators()
    yield formats()
    yield memory()
    for folder in FOLDERS:
        yield writable(Path(folder))
    yield open_files()
    yield shared_memory()


def packages() -> Iterator[Finding]:
    """Python, and what kdframe asks for; extras that are missing are no fault."""
    try:
        asked = [Requirement(text) for text in requires("kdframe") or ()]
        extras = metadata("kdframe").get_all("Provides-Extra") or []
    except PackageNotFoundError:
        yield Finding(
            "warning", "packages", "kdframe isn't installed, so its needs aren't known",
            "pip install -e . in its folder",
        )  # fmt: skip
        return
    own = [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = [fault for one in own if (fault := fault_of(one))]
    said = f"kdframe {__version__}, Python {platform.python_version()}, " + ", ".join(
        f"{one.name} {version(one.name)}" for one in own if not fault_of(one)
    )
    if wrong:
        yield Finding("error", "packages", "; ".join(wrong), "pip install --upgrade kdframe")
    else:
        yield Finding("ok", "packages", said)
    for extra in extras:
        more = [
            r for r in asked if r not in own and r.marker and r.marker.evaluate({"extra": extra})
        ]
        lacking = [one.name for one in more if fault_of(one)]
        if lacking:
            yield Finding(
                "ok", "extra", f"{extra} isn't there (it needs {', '.join(lacking)})",
                f"pip install 'kdframe[{extra}]' adds it",
            )  # fmt: skip


def fault_of(asked: Requirement) -> str:
    """What is wrong with an installed package; empty if nothing is."""
    try:
        there = version(asked.name)
    except PackageNotFoundError:
        return f"{asked.name} isn't installed"
    if asked.specifier.contains(there, prereleases=True):
        return ""
    return f"{asked.name} {there} is installed, and {asked} is needed"


def processor() -> Finding:
    """Its name, and which numbers of 16 bits it computes with."""
    path, name = Path("/proc/cpuinfo"), platform.processor() or platform.machine()
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = sorted(flag for flag in cpu_flags() if flag.startswith("a") and "bf16" in flag)
    flags += [flag for flag in ("avx512f", "avx2") if flag in cpu_flags()][:1]
    said = f"{names[0] if names else name}, {os.cpu_count()} cores"
    return Finding("ok", "CPU", f"{said}; {', '.join(flags) or 'no vector instructions known'}")


def threads() -> Finding:
    """More threads than cores wait for each other."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    count, said = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    text = f"{count} of {cores} usable cores"
    text += f", OMP_NUM_THREADS={said}" if said else ""
    if count > cores:
        return Finding("warning", "threads", text, f"set OMP_NUM_THREADS={cores}")
    return Finding("ok", "threads", text)


def accelerators() -> Iterator[Finding]:
    """CUDA devices with their memory; a driver that torch can't use."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        there = torch.cuda.is_available()
    if not there:
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch"
        reason = str(told[0].message).splitlines()[0] if told else ""
        if reason:
            yield Finding("warning", "CUDA", f"{built}, and says: {reason}", "DEVICE cpu works")
        else:
            yield Finding("ok", "CUDA", "no device; DEVICE auto takes the CPU")
    for number in range(torch.cuda.device_count() if there else 0):
        about = torch.cuda.get_device_properties(number)
        free, total = torch.cuda.mem_get_info(number)
        text = f"{about.name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        if free < total / 4:
            yield Finding("warning", f"cuda:{number}", text, "another process has its memory")
        else:
            yield Finding("ok", f"cuda:{number}", text)
    if torch.backends.mps.is_available():
        yield Finding("warning", "mps", "it is there, and untested", "DEVICE cpu is tested")


def formats() -> Finding:
    """The values of SOLVER.PRECISION that each kind of device takes."""
    kinds = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    said = []
    for kind in kinds:
        taken = [name for name in PRECISIONS if takes(name, torch.device(kind))]
        said.append(f"{kind}: {', '.join(taken)}")
    return Finding("ok", "PRECISION", "; ".join(said))


def takes(precision: str, device: torch.device) -> bool:
    """Whether a device has that number format in hardware."""
    try:
        dtype_on(precision, device)
    except ValueError:
        return False
    return True


def memory() -> Finding:
    """What is free, of the machine and of a container's limit."""
    free = available()
    if free is None:
        return Finding("ok", "memory", "how much is free isn't known here")
    text = f"{free / 2**30:.1f} GiB free"
    if free < ROOM:
        return Finding("warning", "memory", text, "end what else runs")
    return Finding("ok", "memory", text)


def available() -> int | None:
    """Bytes of memory that this process can still get; None where Linux isn't there to say."""
    if not MEMINFO.exists():
        return None
    words = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
    free = 1024 * int(words["MemAvailable"].split()[0])
    for folder, limit, used, cache in CGROUPS:
        most = Path(folder, limit)
        if most.exists() and (text := most.read_text().strip()).isdecimal():
            lines = Path(folder, "memory.stat").read_text().splitlines()
            kept = sum(int(line.split()[1]) for line in lines if line.split()[0] == cache)
            free = min(free, int(text) - int(Path(folder, used).read_text()) + kept)
    return free


def writable(folder: Path, need: float = ROOM) -> Finding:
    """Whether a folder, or the nearest one above it that is there, takes files, and how much."""
    there = folder
    while not there.exists():
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"\0")
    except OSError as error:
        return Finding(
            "error", "folder", f"{folder} can't be written: {error.strerror}",
            "give yourself the right, or work in another folder",
        )  # fmt: skip
    free = shutil.disk_usage(there).free
    text = f"{folder} can be written, {free / 2**30:.1f} GiB free"
    if free < need:
        return Finding("warning", "folder", text, "make room: a full disk ends a run")
    return Finding("ok", "folder", text)


def open_files() -> Finding:
    """The soft limit of open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = soft == resource.RLIM_INFINITY
    text = "no limit of open files" if unlimited else f"{soft:,} may be open at once"
    if not unlimited and soft < FILES:
        more = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
        return Finding("warning", "files", text, f"ulimit -n {more}")
    return Finding("ok", "files", text)


def shared_memory() -> Finding:
    """Where workers put their batches."""
    if sys.platform != "linux" or not SHM.exists():
        return Finding("ok", "/dev/shm", "not there, and not needed on this system")
    free = shutil.disk_usage(SHM).free
    text = f"{free / 2**30:.2f} GiB free"
    if free < LEAST_SHM:
        return Finding(
            "warning", "/dev/shm", text,
            "start the container with --shm-size=2g, or set DATASET.WORKERS 0",
        )  # fmt: skip
    return Finding("ok", "/dev/shm", text)
