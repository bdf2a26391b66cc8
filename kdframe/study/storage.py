"""An Optuna storage that many processes may use at once: opened, beaten for, asked again."""

import importlib.util
import random
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError

from kdframe.config import ConfigError

TRIES = 8  # of a call, for as long as a database takes to start again
WAIT = 60.0  # seconds that SQLite waits for another process
CONNECT = 10  # seconds
DRIVERS = ("psycopg2", "psycopg")
RACES = ("already exists", "locked", "duplicate key", "UNIQUE constraint")  # of two who begin
FAULTS = (StorageInternalError, OperationalError)
P = ParamSpec("P")
T = TypeVar("T")


class StorageGone(RuntimeError):
    """The storage doesn't answer any more."""

    exit_code = 4


@contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's words about what is new in it, and about a loop that it doesn't run."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.filterwarnings("ignore", r"Heartbeat of storage", UserWarning)
        warnings.filterwarnings("ignore", r".*already reported", UserWarning)
        yield


def open_storage(url: str, heartbeat: int, grace: int) -> RDBStorage:
    """The storage behind a URL; its tables are made if need be.

    Args:
        url: ``sqlite:///file``, or ``postgresql://user@host/database``.
        heartbeat: seconds between the signs of life of a run.
        grace: seconds without one, after which a run is given to another worker.

    Raises:
        ConfigError: it is no URL, its driver isn't installed, or it can't be reached.
    """
    options: dict[str, Any] = {"pool_pre_ping": True}
    try:
        parsed = make_url(url)
        name, backend = parsed.render_as_string(hide_password=True), parsed.get_backend_name()
    except ArgumentError as error:
        raise ConfigError(
            f"command line: --storage takes sqlite:///FILE or postgresql://USER@HOST/DATABASE, "
            f"not {url!r}."
        ) from error
    if backend == "sqlite":
        options["connect_args"] = {"timeout": WAIT, "isolation_level": None}
    elif backend == "postgresql":
        options["connect_args"] = {"connect_timeout": CONNECT}
        if parsed.drivername == backend:  # SQLAlchemy asks for one driver, whichever is there
            there = [driver for driver in DRIVERS if importlib.util.find_spec(driver)]
            if not there:
                raise ConfigError(
                    f"command line: --storage: {name} takes one of {', '.join(DRIVERS)}, and none "
                    "is installed: pip install psycopg2-binary."
                )
            parsed = parsed.set(drivername=f"{backend}+{there[0]}")
    for turn in range(TRIES):
        try:
            with quiet():
                storage = RDBStorage(
                    parsed.render_as_string(hide_password=False),
                    engine_kwargs=options,
                    heartbeat_interval=heartbeat,
                    grace_period=grace,
                )
            break
        except (SQLAlchemyError, ImportError, RuntimeError) as error:
            said = str(getattr(error, "orig", None) or error.__cause__ or error)
            if turn + 1 == TRIES or not any(word in said for word in RACES):
                why = " ".join(said.split())
                raise ConfigError(
                    f"command line: --storage: {name} can't be reached: {why}"
                ) from error
            pause(turn)  # another worker makes the tables at this moment
    if backend == "sqlite":
        event.listen(storage.engine, "begin", begin_alone)
    return storage


def begin_alone(connection: Any) -> None:
    """SQLite would let two processes read a run as free before either takes it."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def patiently(call: Callable[P, T], *words: P.args, **named: P.kwargs) -> T:
    """What a call returns, however often it has to be made: a database may be starting again.

    Raises:
        StorageGone: it doesn't answer for minutes.
    """
    for turn in range(TRIES):
        try:
            with quiet():
                return call(*words, **named)
        except FAULTS as error:
            if turn + 1 == TRIES:
                why = " ".join(str(error.__cause__ or error).split())[:200]
                raise StorageGone(f"the storage doesn't answer: {why}") from error
            pause(turn)
    raise AssertionError


def pause(turn: int) -> None:
    """Longer every time, and not as long as others pause."""
    time.sleep(min(30.0, 0.2 * 2**turn) * random.uniform(0.5, 1.5))


class Heartbeat:
    """Says while it is entered that this process works on a trial."""

    def __init__(self, storage: RDBStorage, trial: int, seconds: int) -> None:
        self.storage, self.trial, self.seconds = storage, trial, seconds
        self.over = threading.Event()

    def __enter__(self) -> Self:
        self.thread = threading.Thread(target=self.beat, daemon=True)
        self.thread.start()
        return self

    def beat(self) -> None:
        """A beat that isn't heard is followed by the next."""
        while not self.over.wait(self.seconds):
            try:
                self.storage.record_heartbeat(self.trial)
            except FAULTS:
                continue

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.over.set()
        self.thread.join()
