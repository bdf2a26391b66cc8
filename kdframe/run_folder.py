"""A run's folder: its name, its lock, what it is about and what was said."""

import fcntl
import json
import logging
import os
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kdframe import __version__
from kdframe.config import ConfigError

LATEST = "latest"
LIBRARIES = ("torch", "torchvision", "timm", "fvcore", "yacs", "numpy")


def choose(config: str, output_dir: str, seed: int, again: bool) -> Path:
    """The folder of a run: ``output_dir``, a new one under runs/, or ``again`` the latest there.

    Raises:
        ConfigError: ``again``, and there was no run.
    """
    if output_dir:
        return Path(output_dir)
    home = Path("runs", config)
    if not again:
        return home / f"{time.strftime('%Y%m%d-%H%M%S')}-s{seed}"
    if not (home / LATEST).exists():
        raise ConfigError(f"OUTPUT_DIR: there is no run in {home} to go on with.")
    return home / (home / LATEST).readlink()


def refuse_occupied(folder: Path) -> None:
    """A folder that holds a run is never overwritten.

    Raises:
        ConfigError: it does, or it is no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"OUTPUT_DIR: {folder} is a file.")
    if (folder / "run.json").exists():
        raise ConfigError(
            f"OUTPUT_DIR: {folder} holds a run: --resume goes on with it, another OUTPUT_DIR "
            "starts a new one."
        )


def require_done(folder: Path) -> dict[str, Any]:
    """run.json of a folder whose run is done.

    Raises:
        ConfigError: it holds no run, or one that isn't done.
    """
    path = folder / "run.json"
    if not path.exists():
        near = (
            f" Did you mean {folder / LATEST}?" if (folder / LATEST / "run.json").exists() else ""
        )
        there = "holds no run" if folder.exists() else "isn't there"
        raise ConfigError(f"OUTPUT_DIR: {folder} {there}.{near}")
    try:
        about: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"{path} is broken: {error}") from error
    missing = [name for name in ("config.yaml", "results.json") if not (folder / name).exists()]
    if about["state"] != "done":
        end = "wait for it, or, if it was killed, " if about["state"] == "running" else ""
        raise ConfigError(
            f"OUTPUT_DIR: the run in {folder} is {about['state']}, not done: {end}train it to its "
            "end with --resume."
        )
    if missing:
        raise ConfigError(f"OUTPUT_DIR: {folder} lacks its run's {missing[0]}.")
    return about


class RunFolder:
    """A run's folder, locked and written to while it is entered.

    The lock is POSIX (``lockf``): the kernel frees it when the process dies, however it dies.
    ``run.json`` says done only after ``finish``.

    Args:
        path: made if need be.
        wait: wait for another process's lock; otherwise a lock is an error.
        first: this is the process that writes; the others do nothing here.
    """

    def __init__(self, path: Path, wait: bool = False, first: bool = True) -> None:
        self.path, self.wait, self.first = path, wait, first
        self.about: dict[str, Any] = {}

    def __enter__(self) -> Self:
        if self.first:
            self.open()
        return self

    def open(self) -> None:
        """Takes the lock, and writes to log.txt what is logged from now on.

        Raises:
            ConfigError: another process has the lock.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileNotFoundError, FileExistsError, NotADirectoryError) as error:
            raise ConfigError(f"OUTPUT_DIR: {self.path} can't be made: {error}.") from error
        self.lock = (self.path / ".lock").open("a+")
        try:
            fcntl.lockf(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.lock.seek(0)
            message = f"OUTPUT_DIR: {self.path} is in use by {self.lock.read().strip()}."
            if not self.wait:
                self.lock.close()
                raise ConfigError(message) from None
            logging.getLogger("kdframe").info("%s Waiting for it.", message)
            fcntl.lockf(self.lock, fcntl.LOCK_EX)
        self.lock.truncate(0)
        who = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%F %T')}"
        self.lock.write(who)
        self.lock.flush()
        self.handler = logging.FileHandler(self.path / "log.txt", delay=True)
        logging.getLogger("kdframe").addHandler(self.handler)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.first:
            return
        stopped = isinstance(error, KeyboardInterrupt) or getattr(error, "exit_code", 0) > 128
        try:
            if error is not None and self.about:
                self.say(state="stopped" if stopped else "failed")
        except OSError:  # the disk is full: the run's own error is the one to be told
            logging.getLogger("kdframe").warning("%s/run.json couldn't be written", self.path)
        finally:
            logging.getLogger("kdframe").removeHandler(self.handler)
            self.handler.close()
            self.lock.close()
            if error is not None and not self.about:
                self.leave_nothing()

    def leave_nothing(self) -> None:
        """Removes the folder if all that it holds is the lock: its run never began."""
        if [path.name for path in self.path.iterdir()] == [".lock"]:
            (self.path / ".lock").unlink()
            self.path.rmdir()

    def say(self, **facts: Any) -> None:
        """Adds to run.json."""
        if not self.first:
            return
        from_before = self.path / "run.json"
        if not self.about and from_before.exists():
            self.about = json.loads(from_before.read_text())
        self.about |= facts
        temporary = from_before.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.about, indent=2) + "\n")
        temporary.replace(from_before)

    def begin(self, seed: int, device: str, config: str) -> None:
        """Writes run.json: how this process was called, on what, and that it runs.

        ``config`` is the digest of its config.
        """
        self.say(
            command=sys.argv,
            kdframe=__version__,
            python=sys.version.split()[0],
            versions={name: version(name) for name in LIBRARIES},
            git=commit(),
            seed=seed,
            config=config,
            device=device,
            start=time.strftime("%FT%T%z"),
            state="running",
        )

    def link(self) -> None:
        """Makes ``latest`` beside the folder point to it."""
        if not self.first:
            return
        link = self.path.parent / LATEST
        temporary = link.with_name(f".{LATEST}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(self.path.name)
        temporary.replace(link)


def commit() -> str:
    """The working folder's git commit, with a + if files differ from it; empty outside git."""
    try:
        text = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+"],
            capture_output=True,
            text=True,
            timeout=10,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return text.strip()
