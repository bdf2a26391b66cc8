"""The harness of the fault tests: the real command in a process of its own, and what is done to it.

A test asks for fixtures; there is nothing to import:

``lab``    a folder of the test's own with configs in it, ``student.yaml`` first (see CONFIGS).
    ``lab.run(*words)``    runs ``train_net.py --config-file student.yaml WORDS`` to its end and
        returns subprocess's CompletedProcess with text.  ``config=``, ``env=`` (added),
        ``tool=`` (another script of tools/), ``processes=`` (under torchrun), ``limit=`` (the
        largest file in bytes, as ``ulimit -f`` sets it) and ``die=("fsync", 3)`` (a SIGKILL
        inside the third call: see breaking.py) are for both.
    ``lab.start(*words)``  starts the same and returns a ``Process``:
        ``.wait_for(text, path=None)`` waits until the console, or a file, says ``text``;
        ``.signal(number, group=False)``; ``.end()`` returns (exit code, stdout, stderr).
        What a test leaves running is killed after it, with its whole group.
    ``lab.same(a, b)``     the names of a run's files whose bytes differ between two folders,
        wall-clock fields aside; empty for runs that ended alike.
    ``lab.uninterrupted(*words, config=)``  the folder of a run that nothing happened to, made
        once a session for all tests; ``lab.copy(folder, name)`` makes one that may be broken.
    ``lab.pictures()``     writes pictures.yaml and its images: a set that workers stream.
    ``lab.write(name, text)``   adds a config, or any file.
``count``  ``count("kills survived", 3)`` adds to the figures that are printed at the end of the
    session; ``count("flips noticed", 40, of=40)`` prints "40 of 40".

A long test is marked ``@pytest.mark.faults``: plain ``pytest`` leaves it out.  ``pytest -m faults``
runs every test of this folder, the unmarked ones too.
"""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
BREAKING = Path(__file__).with_name("breaking.py")
PATIENCE = 240.0  # seconds until a test gives up on a process; no demand
WALL_CLOCK = ("seconds", "images_per_second")  # of results.json

CONFIGS = {
    "base.yaml": """
DATASET: {NAME: glyphs, TRAIN: 360, TEST: 72, VAL: 72}
SOLVER: {OPTIMIZER: adamw, LR: 0.01, EPOCHS: 3, BATCH_SIZE: 48}
HOOKS: {metrics: {PERIOD: 1}, tensorboard: null, curves: null}
CHECKPOINT: {MINUTES: 0}
""",
    "student.yaml": """
_BASE_: base.yaml
STUDENT: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 4, STRIDE: 2}
LOSS: {cross_entropy: {}}
""",
    "teacher.yaml": """
_BASE_: base.yaml
STUDENT: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 16, STRIDE: 2}
LOSS: {cross_entropy: {}}
SOLVER: {EPOCHS: 15}
""",
    "kd.yaml": """
_BASE_: student.yaml
TEACHER: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 8, STRIDE: 2, WEIGHTS: random}
LOSS: {kd: {}, feature: {}}
SOLVER: {EMA: 0.9}
""",
}

PICTURES = """
_BASE_: student.yaml
DATASET: {NAME: image_folder, ROOT: pictures, STREAM: true, AUGMENT: crop_flip, VAL: 8, WORKERS: 0}
SOLVER: {BATCH_SIZE: 8, EPOCHS: 6}
"""

FIGURES = pytest.StashKey[dict[str, list[int]]]()


class Process:
    """A command that runs, in a session of its own; its output goes to two files."""

    def __init__(self, words: Sequence[str], where: Path, **how: object) -> None:
        number = len(list(where.glob("stdout-*")))
        self.out, self.err = where / f"stdout-{number}", where / f"stderr-{number}"
        with self.out.open("w") as out, self.err.open("w") as err:
            self.popen = subprocess.Popen(
                words, cwd=where, stdout=out, stderr=err, start_new_session=True, **how
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def wait_for(self, text: str, path: Path | None = None) -> None:
        """Until the console, or a file, says ``text``; fails if the process ends before."""
        path, until = path or self.out, time.monotonic() + PATIENCE
        while not (path.exists() and text in path.read_text(errors="replace")):
            code = self.popen.poll()
            assert code is None, f"ended with {code} before {text!r}: {self.err.read_text()}"
            assert time.monotonic() < until, f"never said {text!r}: {self.out.read_text()}"
            time.sleep(0.01)

    def signal(self, number: int, group: bool = False) -> None:
        (os.killpg if group else os.kill)(self.pid, number)

    def end(self) -> tuple[int, str, str]:
        """Waits for it: exit code (negative for a signal that killed it), stdout and stderr."""
        code = self.popen.wait(PATIENCE)
        return code, self.out.read_text(), self.err.read_text()

    def clear(self) -> None:
        """Kills it and what it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait()


class Lab:
    """A folder of configs, and the command in it."""

    def __init__(self, where: Path, home: Path, whole: dict[tuple[str, ...], Path]) -> None:
        self.where, self.home, self.whole = where, home, whole
        self.started: list[Process] = []
        for name, text in CONFIGS.items():
            self.write(name, text)

    def uninterrupted(self, *words: str, config: str = "student.yaml") -> Path:
        key = (config, *words)
        if key not in self.whole:
            folder = self.home / f"whole-{len(self.whole)}"
            done = self.run(*words, "OUTPUT_DIR", str(folder), config=config)
            assert done.returncode == 0, done.stderr
            self.whole[key] = folder
        return self.whole[key]

    def copy(self, whole: Path, name: str, finished: bool = True) -> Path:
        """A run's folder under another name; not ``finished``: as if it had died just before."""
        folder = Path(shutil.copytree(whole, self.where / name))
        if not finished:
            (folder / "results.json").unlink()
        return folder

    def pictures(self) -> None:
        pixels = random.Random(0)
        for split, images in (("train", 24), ("val", 4)):
            for kind in "ab":
                for i in range(images):
                    path = self.where / "pictures" / split / kind / f"{i}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.frombytes("RGB", (16, 16), pixels.randbytes(768)).save(path)
        self.write("pictures.yaml", PICTURES)

    def write(self, name: str, text: str) -> Path:
        path = self.where / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def start(
        self,
        *words: str,
        config: str = "student.yaml",
        tool: str = "train_net.py",
        env: dict[str, str] | None = None,
        processes: int = 1,
        limit: int | None = None,
        die: tuple[str, int] | None = None,
    ) -> Process:
        script = [str(ROOT / "tools" / tool)]
        if tool == "train_net.py":
            script += ["--config-file", config]
        if die:
            script = [str(BREAKING), die[0], str(die[1]), *script]
        if processes > 1:
            script = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", *script]
        process = Process(
            [sys.executable, *script, *words],
            self.where,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
            preexec_fn=lambda: settle(limit),
        )
        self.started.append(process)
        return process

    def run(self, *words: str, **how: object) -> subprocess.CompletedProcess[str]:
        process = self.start(*words, **how)
        return subprocess.CompletedProcess(process.popen.args, *process.end())

    def same(self, a: str | Path, b: str | Path) -> list[str]:
        """What differs between two finished runs that should have ended alike."""
        one, two = self.where / a, self.where / b
        names = ["metrics.jsonl", *(p.name for p in one.glob("*.safetensors"))]
        differ = [n for n in names if (one / n).read_bytes() != (two / n).read_bytes()]
        return differ + ["results.json"] * (results(one) != results(two))


def results(folder: Path) -> dict[str, object]:
    found = json.loads((folder / "results.json").read_text())
    return {key: value for key, value in found.items() if key not in WALL_CLOCK}


def settle(limit: int | None) -> None:
    """In the child: as in a shell, also where pytest itself runs in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.markexpr == "faults":
        for item in items:
            if item.path.is_relative_to(Path(__file__).parent):
                item.add_marker("faults")


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[str, ...], Path]]:
    return tmp_path_factory.mktemp("uninterrupted"), {}


@pytest.fixture
def lab(tmp_path: Path, home: tuple[Path, dict[tuple[str, ...], Path]]) -> Iterator[Lab]:
    lab = Lab(tmp_path, *home)
    yield lab
    for process in lab.started:
        process.clear()


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Callable[..., None]:
    figures = request.config.stash.setdefault(FIGURES, {})

    def add(name: str, n: int = 1, of: int | None = None) -> None:
        figure = figures.setdefault(name, [0, 0])
        figure[0] += n
        figure[1] += of or 0

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    figures = terminalreporter.config.stash.get(FIGURES, {})
    if figures:
        terminalreporter.section("faults")
        for name, (n, of) in figures.items():
            terminalreporter.write_line(f"{name}: {n}" + (f" of {of}" if of else ""))
