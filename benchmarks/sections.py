"""What ``benchmarks.run`` measures, section by section."""

import copy
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from benchmarks import peak, start
from benchmarks.apart import Apart
from benchmarks.checks import checks
from benchmarks.clock import Work, in_turns, memory
from benchmarks.loops import (
    CACHE,
    EPOCH,
    Bound,
    Prepared,
    Taps,
    close,
    last_steps,
    prepared,
    settle,
)
from benchmarks.phases import Phases
from benchmarks.plain import Pictures, PlainLoop, by_hand
from benchmarks.rows import Row, Target, at_least, at_most, row
from kdframe.evaluation import evaluate
from kdframe.loading import Loader
from kdframe.trainer import Trainer

HALF = ("SOLVER.PRECISION", "bf16")
CACHED = ("TEACHER.CACHE", "fp32")
GAINS = {  # of kdframe's default over the hand-written loop, of bf16, of the cache with bf16
    "resnet56-resnet20": (1.35, 2.3, 4.0),
    "resnet32x4-resnet8x4": (1.3, 2.3, 6.0),
    "resnet34-resnet18": (1.05, 2.3, None),
}
ROOFLINE = {"resnet56-resnet20": 52.0, "resnet32x4-resnet8x4": 65.0}  # percent
SPLIT = 64  # batches of evaluation: CIFAR's 10,000 images are 157 of 64
LONGEST = 1.0  # seconds that a measurement takes at least, by its number of steps


class Asked:
    """What to measure, and the loops of it, each made once."""

    def __init__(
        self, pair: str, batch: int, rounds: int, device: torch.device, folder: Path, quick: bool
    ) -> None:
        self.pair, self.batch, self.rounds = pair, batch, rounds
        self.device, self.folder, self.quick = device, folder, quick
        self.trainers: list[Trainer] = []
        self.processes: list[Apart] = []

    def prepared(self, *words: str) -> Prepared:
        """Data and networks of a config with these overrides."""
        place = self.folder / ("_".join(words).replace(".", "_") or "default")
        return settle(prepared(self.pair, self.batch, self.device, place, words))

    @cached_property
    def ready(self) -> Prepared:
        return self.prepared()

    @cached_property
    def trainer(self) -> Trainer:
        """kdframe's, with its defaults."""
        return self.begun(self.ready)

    def begun(self, ready: Prepared) -> Trainer:
        """A trainer to be closed with the others."""
        self.trainers.append(ready.trainer())
        return self.trainers[-1]

    def close(self) -> None:
        close(*self.trainers)
        for process in self.processes:
            process.close()

    def by_hand(self, steps: int) -> Work:
        """The hand-written loop; on a CPU, in a process of its own."""
        if self.device.type == "cuda":
            return lambda: self.plain.train(steps)
        self.processes.append(Apart(by_hand, self.pair, self.batch, steps))
        return self.processes[-1]

    @cached_property
    def bound(self) -> Bound:
        return Bound(self.trainer)

    @cached_property
    def plain(self) -> PlainLoop:
        """The hand-written loop, with the same networks: NCHW, nothing folded."""
        student, teacher = (
            copy.deepcopy(network).to(memory_format=torch.contiguous_format).network
            for network in (self.ready.student, self.ready.teacher)
        )
        dataset = self.ready.data.train.stream.dataset
        return PlainLoop(student, teacher, dataset, self.batch, self.device)

    @property
    def half(self) -> bool:
        """Whether bf16 is arithmetic here, and not emulated."""
        if self.device.type == "cuda":
            return torch.cuda.is_bf16_supported(including_emulation=False)
        info = Path("/proc/cpuinfo")
        return info.exists() and "avx512_bf16" in info.read_text()

    def target(self, of: Target) -> Target | None:
        """A quick look is held to nothing."""
        return None if self.quick else of


def loops(asked: Asked) -> list[Row]:
    """Kdframe's loop, its bound, the hand-written loop; live and cached; fp32 and bf16."""
    steps = 1
    while not asked.quick and steps < 8 and steps * step_seconds(asked) < LONGEST:
        steps *= 2
    bound = asked.bound
    works: dict[str, Work] = {
        "bound": bound.live(steps),
        "kdframe": last_steps(asked.trainer, steps),
        "hand-written": asked.by_hand(steps),
        "student-only bound": bound.cached(steps),
    }
    if asked.half:
        works["kdframe, bf16"] = last_steps(asked.begun(asked.prepared(*HALF)), steps)
    if CACHE:
        works["kdframe, cached"] = last_steps(asked.begun(asked.prepared(*CACHED)), steps)
        if asked.half:
            both = asked.begun(asked.prepared(*CACHED, *HALF))
            works["kdframe, cached, bf16"] = last_steps(both, steps)
    peaks = peak.works(asked.device, torch.float32)
    times = in_turns({**works, **{n: w for n, (w, _) in peaks.items()}}, asked.rounds, asked.device)
    gains = GAINS.get(asked.pair, (None, None, None))
    live, half, cached = (at_least(g) if g and not asked.quick else None for g in gains)
    scale = 1000 / steps
    hand = {"against": "hand-written", "gain": True, "scale": scale}
    found = [
        row(times, "bound", scale=scale),
        row(times, "hand-written", scale=scale),
        row(times, "kdframe", "bound", asked.target(at_most(1.03)), scale=scale),
        row(times, "kdframe", target=live, **hand),
    ]
    if asked.half:
        found.append(row(times, "kdframe, bf16", target=half, **hand))
    else:
        found.append(Row("kdframe, bf16", note="this CPU has no AVX512_BF16"))
    found.append(row(times, "student-only bound", scale=scale))
    if CACHE:
        limit = asked.target(at_most(1.04))
        found.append(row(times, "kdframe, cached", "student-only bound", limit, scale=scale))
        found.append(row(times, "kdframe, cached", **hand))
        if asked.half:
            found.append(row(times, "kdframe, cached, bf16", target=cached, **hand))
    else:
        found.append(Row("kdframe, cached", note="not there yet: no TEACHER.CACHE"))
    return [*found, *roofline(asked, times, peaks, steps)]


def step_seconds(asked: Asked) -> float:
    """About, of the bound."""
    if "step" not in vars(asked):
        work = asked.bound.live(1)
        work()
        asked.step = min(in_turns({"": work}, 1, asked.device)[""])
    return asked.step


def roofline(
    asked: Asked, times: dict[str, list[float]], peaks: dict[str, tuple[Work, int]], steps: int
) -> list[Row]:
    """The machine's peaks in fp32, and what share of the higher one kdframe's loop reaches."""
    speeds = {n: [work / t / 1e9 for t in times[n]] for n, (_, work) in peaks.items()}
    top = [max(each) for each in zip(*speeds.values(), strict=True)]
    work = steps * peak.flops(asked.ready.teacher, asked.ready.student, asked.batch)
    own = [work / t / 1e9 for t in times["kdframe"]]
    share = [100 * a / b for a, b in zip(own, top, strict=True)]
    least = ROOFLINE.get(asked.pair)
    target = asked.target(at_least(least)) if least else None
    return [
        *(Row(name, speed, "GF/s") for name, speed in speeds.items()),
        Row("kdframe's share of the peak, %", own, "GF/s", share, "the higher peak", target),
    ]


def phases(asked: Asked) -> list[Row]:
    """Where kdframe's time goes."""
    work = last_steps(asked.trainer, 1 if asked.quick else 2)
    work()
    stamps = Phases(asked.device)
    rounds = [stamps.shares(asked.trainer, work) for _ in range(asked.rounds)]
    return [Row(f"phase: {n}", [100 * r[n] for r in rounds], "%") for n in rounds[0]]


def finite(asked: Asked) -> list[Row]:
    """The checks of a step's loss and gradient, against the whole step."""
    every = asked.trainer.watch.every
    works = {"a step": last_steps(asked.trainer, 1), "its checks": checks(asked.trainer)}
    times = in_turns(works, asked.rounds, asked.device)
    times["its checks"] = [seconds / every for seconds in times["its checks"]]
    return [
        row(times, "a step"),
        row(times, "its checks", "a step", asked.target(at_most(0.01))),
    ]


def data(asked: Asked) -> list[Row]:
    """An image's way into a batch: through Pillow, and as kdframe does it."""
    dataset = asked.ready.data.train.stream.dataset
    pictures = DataLoader(Pictures(dataset), asked.batch, shuffle=True)
    loader = asked.ready.data.train
    works: dict[str, Work] = {
        "data, Pillow": lambda: [None for _ in pictures],
        "data, kdframe": lambda: [None for _ in loader.train(0, asked.batch)],
    }
    times = in_turns(works, asked.rounds, asked.device)
    scale = {"scale": 1e6 / len(dataset), "unit": "us an image"}
    limit = asked.target(at_least(15))
    return [
        row(times, "data, Pillow", **scale),
        row(times, "data, kdframe", "data, Pillow", limit, gain=True, **scale),
    ]


def taps(asked: Asked) -> list[Row]:
    """Four maps of the student get a gradient, and four of the teacher are handed out."""
    step = Taps(asked.bound)
    works = {"step without taps": step.without, "step with four taps": step.used}
    times = in_turns(works, 2 * asked.rounds, asked.device, 0.02 if asked.quick else LONGEST / 2)
    limit = asked.target(at_most(1.02))
    return [
        row(times, "step without taps"),
        row(times, "step with four taps", "step without taps", limit),
    ]


def evaluation(asked: Asked) -> list[Row]:
    """Kdframe's whole evaluation against a forward pass in NCHW on tensors that are there."""
    images = str((EPOCH if asked.quick else SPLIT) * asked.batch)
    loader: Loader = asked.prepared("DATASET.TEST", images).data.test
    student = asked.trainer.model.deployed
    batches = [(b.image.contiguous(), b.target) for b in loader.all(asked.batch)]
    count = sum(len(target) for _, target in batches)
    eager = copy.deepcopy(student).to(memory_format=torch.contiguous_format).network.eval()

    def forward() -> float:
        with torch.no_grad():
            hits = [(eager(image).argmax(dim=1) == target).sum() for image, target in batches]
        return float(torch.stack(hits).sum() / count)

    def of(precision: torch.dtype) -> Work:
        def work() -> None:
            evaluate({"test": student}, loader.all(asked.batch), asked.device, precision)

        return work

    works: dict[str, Work] = {"eager NCHW forward": forward, "evaluate": of(torch.float32)}
    if asked.half:
        works["evaluate, bf16"] = of(torch.bfloat16)
    times = in_turns(works, asked.rounds, asked.device, 0.02 if asked.quick else 0.2)
    scale = {"scale": 1e6 / count, "unit": "us an image"}
    found = [row(times, "eager NCHW forward", **scale)]
    for name, least in (("evaluate", 1.3), ("evaluate, bf16", 2.2)):
        if name in works:
            limit = asked.target(at_least(least))
            found.append(row(times, name, "eager NCHW forward", limit, gain=True, **scale))
    return found


def memories(asked: Asked) -> list[Row]:
    """The most that a step's tensors take at once."""
    works = {
        "memory, hand-written": lambda: asked.plain.train(1),
        "memory, kdframe": last_steps(asked.trainer, 1),
    }
    for work in works.values():
        work()
    took = {name: memory(work, asked.device) / 2**20 for name, work in works.items()}
    hand, own = took.values()
    return [
        Row("memory, hand-written", [hand], "MiB"),
        Row(
            "memory, kdframe",
            [own],
            "MiB",
            [own / hand],
            "hand-written",
            asked.target(at_most(1.0)),
        ),
    ]


def starts(asked: Asked) -> list[Row]:
    """From the start of a process to an answer, and to a first step."""
    rounds = 2 if asked.quick else 5
    took: dict[str, list[float]] = {"import torch": [], "train_net.py -h": []}
    for _ in range(rounds):
        took["import torch"].append(start.child_seconds(start.TORCH))
        took["train_net.py -h"].append(start.child_seconds(start.HELP))
    steps = [start.first_step(asked.pair, asked.batch, asked.device.type) for _ in range(2)]
    limit = at_most(0.2)
    return [
        row(took, "import torch", scale=1, unit="s"),
        row(took, "train_net.py -h", "import torch", limit, scale=1, unit="s"),
        *(Row(f"first step: {part}", [s[part] for s in steps], "s") for part in steps[0]),
        Row("first step: all", [sum(s.values()) for s in steps], "s"),
    ]


ALL: dict[str, Callable[[Asked], list[Row]]] = {
    "loops": loops,
    "phases": phases,
    "checks": finite,
    "data": data,
    "taps": taps,
    "evaluation": evaluation,
    "memory": memories,
    "start": starts,
}
