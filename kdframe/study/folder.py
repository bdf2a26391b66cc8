"""A study's own folder: whose it is, and who works in it."""

import fcntl
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kdframe import lock
from kdframe.config import ConfigError
from kdframe.run_files import read_json
from kdframe.study.written import Study
from kdframe.writing import write_json

ABOUT = "study.json"


def owner(study: Study) -> dict[str, str]:
    """What tells one study from another."""
    return {"name": study.name, "file": os.path.relpath(study.path)}


def refuse_other(study: Study, about: dict[str, Any] | None) -> None:
    """One folder holds one study.

    Args:
        study: the one that would be here.
        about: the folder's study.json.

    Raises:
        ConfigError: it holds another, a run, or is no folder.
    """
    folder = study.output_dir
    if folder.exists() and not folder.is_dir():
        raise study.error("OUTPUT_DIR", f"{folder} is a file.")
    if about is None:
        if (folder / "run.json").exists():
            raise study.error("OUTPUT_DIR", f"{folder} holds a run, and a study has its own.")
        return
    mine = owner(study)
    moved = about.get("file") != mine["file"] and not Path(str(about.get("file"))).exists()
    if about.get("name") != mine["name"] or (about.get("file") != mine["file"] and not moved):
        raise study.error(
            "OUTPUT_DIR",
            f"{folder} holds the study {about.get('name')} of {about.get('file')}; two studies "
            "take two folders.",
        )


class StudyFolder:
    """A study's folder while a process works in it: alone, or ``shared`` with other workers.

    The lock is the run folder's kind: the kernel frees it when the process dies.
    """

    def __init__(self, path: Path, shared: bool) -> None:
        self.path, self.shared = path, shared

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileNotFoundError, FileExistsError, NotADirectoryError) as error:
            raise ConfigError(f"OUTPUT_DIR: {self.path} can't be made: {error}.") from error
        self.lock = lock.opened(self.path)
        how = fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX
        try:
            fcntl.lockf(self.lock, how | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            self.lock.seek(0)
            who = self.lock.read().strip() or "workers that share it by --storage"
            self.lock.close()
            raise ConfigError(f"OUTPUT_DIR: {self.path} is in use by {who}.") from None
        self.lock.truncate(0)
        if not self.shared:
            now = time.strftime("%F %T")
            self.lock.write(f"process {os.getpid()} on {socket.gethostname()} since {now}")
        self.lock.flush()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.lock.close()


class Failures:
    """Why runs failed, in the study's folder: they aren't tried again unless that is asked for."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "failed.json"

    def read(self) -> dict[str, str]:
        """The reasons, by the runs' keys."""
        return {str(key): str(why) for key, why in (read_json(self.path) or {}).items()}

    def note(self, key: str, why: str) -> None:
        """One more; an empty ``why`` forgets it."""
        reasons = {**self.read(), key: why}
        write_json(self.path, {key: why for key, why in reasons.items() if why})
