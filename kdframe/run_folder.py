"""A run's folder: its name, its lock, what it is about and what was said."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kdframe import __version__, lock
from kdframe.config import ConfigError
from kdframe.run_files import read_json
from kdframe.writing import clear_strays, no_link, write_json

LATEST = "latest"
ABOUT, CHECKPOINTS = "run.json", "checkpoints"
LEFT_BY_A_RUN = ("results.json", f"{CHECKPOINTS}/step_*", "*.safetensors")
LIBRARIES = ("torch", "torchvision", "timm", "fvcore", "yacs", "numpy")


def choose(config: str, output_dir: str, seed: int, again: bool) -> Path:
    """The folder of a run: ``output_dir``, a new one under runs/, or ``again`` the latest there.

    Raises:
        ConfigError: ``again``, and there was no run.
    """
    if output_dir:
        try:
            Path(output_dir).lstat()
        except ValueError as error:  # a NUL, or half a character
            raise ConfigError(f"OUTPUT_DIR: {output_dir!r} can name no folder.") from error
        except OSError:  # it isn't there yet, or whoever opens it says what is wrong
            pass
        return Path(output_dir)
    home = Path("runs", config)
    if not again:
        return home / f"{time.strftime('%Y%m%d-%H%M%S')}-s{seed}"
    if not (home / LATEST).exists():
        raise ConfigError(f"OUTPUT_DIR: there is no run in {home} to go on with.")
    return home / (home / LATEST).readlink()


def refuse_occupied(folder: Path) -> None:
    """A folder that holds a run is never overwritten; one that never got to training is no run.

    Raises:
        ConfigError: it does, or it is no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"OUTPUT_DIR: {folder} is a file.")
    about = read_json(folder / ABOUT)
    began = about is not None and about.get("trained", True)
    if began or any(found for name in LEFT_BY_A_RUN for found in folder.glob(name)):
        raise ConfigError(
            f"OUTPUT_DIR: {folder} holds a run: --resume goes on with it, another OUTPUT_DIR "
            "starts a new one."
        )


def require_done(folder: Path) -> dict[str, Any]:
    """run.json of a folder whose run is done.

    Raises:
        ConfigError: it holds no run, or one that isn't done.
    """
    about = read_json(folder / "run.json")
    if about is None:
        near = (
            f" Did you mean {folder / LATEST}?" if (folder / LATEST / "run.json").exists() else ""
        )
        there = "holds no run" if folder.exists() else "isn't there"
        raise ConfigError(f"OUTPUT_DIR: {folder} {there}.{near}")
    missing = [name for name in ("config.yaml", "results.json") if not (folder / name).exists()]
    if about.get("state") != "done":
        end = "wait for it, or, if it was killed, " if about.get("state") == "running" else ""
        raise ConfigError(
            f"OUTPUT_DIR: the run in {folder} is {about.get('state')}, not done: {end}train it to "
            "its end with --resume."
        )
    if missing:
        raise ConfigError(f"OUTPUT_DIR: {folder} lacks its run's {missing[0]}.")
    return about


class RunFolder:
    """A run's folder, locked and written to while it is entered.

    The lock is POSIX (``lockf``): the kernel frees it when the process dies, however it dies, and
    workers that outlive it don't have it.  ``run.json`` says done only after ``finish``.

    Args:
        path: made if need be.
        wait: wait for another process's lock; otherwise a lock is an error.
        first: this is the process that writes; the others do nothing here.
        look: called now and then while it waits.
    """

    def __init__(
        self,
        path: Path,
        wait: bool = False,
        first: bool = True,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self.path, self.wait, self.first, self.look = path, wait, first, look
        self.about: dict[str, Any] = {}

    def __enter__(self) -> Self:
        if self.first:
            self.open()
        return self

    def open(self) -> None:
        """Takes the lock, clears what dead processes left, and logs to log.txt from now on.

        Raises:
            ConfigError: another process has the lock.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileNotFoundError, FileExistsError, NotADirectoryError) as error:
            raise ConfigError(f"OUTPUT_DIR: {self.path} can't be made: {error}.") from error
        self.lock = lock.taken(self.path, self.look if self.wait else None)
        for folder in (self.path, self.path / CHECKPOINTS):
            clear_strays(folder)
        self.handler = LogFile(self.path / "log.txt")
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
            if error is not None and not self.about:
                self.leave_nothing()
            self.lock.close()

    def leave_nothing(self) -> None:
        """Removes the folder if all that it holds is the lock: its run never began."""
        if [path.name for path in self.path.iterdir()] == [lock.NAME]:
            (self.path / lock.NAME).unlink()
            self.path.rmdir()

    def say(self, **facts: Any) -> None:
        """Adds to run.json."""
        if not self.first:
            return
        if not self.about:
            self.about = read_json(self.path / ABOUT) or {}
        self.about |= facts
        write_json(self.path / ABOUT, self.about)

    def train(self) -> None:
        """Says that from now on there is something to lose: the folder holds a run."""
        self.say(trained=True)

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
            trained=self.has_trained(),
        )

    def has_trained(self) -> bool:
        """Whether a run was here that got to its first step."""
        about = read_json(self.path / ABOUT)
        return about is not None and bool(about.get("trained", True))

    def link(self) -> None:
        """Makes ``latest`` beside the folder point to it."""
        if not self.first:
            return
        link = self.path.parent / LATEST
        temporary = link.with_name(f".{LATEST}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(self.path.name)
        temporary.replace(link)


class LogFile(logging.FileHandler):
    """log.txt; on a full disk it is silent, and the run ends by the files that it must save."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, delay=True)

    def _open(self) -> TextIOWrapper:
        return TextIOWrapper(open(self.baseFilename, "ab", opener=no_link), encoding="utf-8")

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        with suppress(OSError):  # what had no room before has none now
            super().close()


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
