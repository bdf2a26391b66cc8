"""The table: what was measured, against what, and whether it is what it should be."""

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.clock import median, ratios
from kdframe.reports.complexity import table

HEADER = ("", "median", "range", "runs", "ratio", "its range", "against", "target", "")


class Target(NamedTuple):
    """A bound of a ratio."""

    sign: str  # "<=" or ">="
    bound: float

    def met(self, ratio: float) -> bool:
        return ratio <= self.bound if self.sign == "<=" else ratio >= self.bound

    def __str__(self) -> str:
        return f"{self.sign} {self.bound:g}"


def at_most(bound: float) -> Target:
    """A ratio that is a cost."""
    return Target("<=", bound)


def at_least(bound: float) -> Target:
    """A ratio that is a gain."""
    return Target(">=", bound)


class Row(NamedTuple):
    """One measurement; or, without values, why there is none."""

    name: str
    values: Sequence[float] = ()
    unit: str = ""
    ratio: Sequence[float] = ()  # round by round, or one
    against: str = ""
    target: Target | None = None
    note: str = ""

    @property
    def missed(self) -> bool:
        return bool(self.target and self.ratio) and not self.target.met(median(self.ratio))

    def cells(self) -> list[str]:
        """As the table shows it."""
        own, rate = (shown(numbers) for numbers in (self.values, self.ratio))
        word = "missed" if self.missed else "met" if self.target and self.ratio else self.note
        return [
            self.name,
            f"{own[0]} {self.unit}".strip() if self.values else "",
            own[1],
            str(len(self.values) or ""),
            *rate,
            self.against,
            str(self.target or ""),
            word,
        ]

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "name": self.name,
            "unit": self.unit,
            "values": list(self.values),
            "ratio": median(self.ratio) if self.ratio else None,
            "ratios": list(self.ratio),
            "against": self.against,
            "target": str(self.target or ""),
            "missed": self.missed,
            "note": self.note,
        }


def shown(values: Sequence[float]) -> tuple[str, str]:
    """The median, and from the least to the most."""
    if not values:
        return "", ""
    spread = f"{min(values):.4g} - {max(values):.4g}" if len(values) > 1 else ""
    return f"{median(values):.4g}", spread


def row(
    times: dict[str, list[float]],
    name: str,
    against: str = "",
    target: Target | None = None,
    *,
    scale: float = 1000,
    unit: str = "ms",
    gain: bool = False,
) -> Row:
    """Of what took turns; the ratio is ``name``'s time over ``against``'s, or with ``gain`` the
    other way round.
    """
    own = times[name]
    ratio: list[float] = []
    if against:
        ratio = ratios(times[against], own) if gain else ratios(own, times[against])
    return Row(name, [scale * t for t in own], unit, ratio, against, target)


def as_table(rows: Sequence[Row]) -> str:
    """The rows as a markdown table."""
    return table(HEADER, [r.cells() for r in rows])


def machine(device: torch.device) -> dict[str, Any]:
    """What figures depend on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def processor() -> str:
    """The CPU's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def write(path: Path, about: dict[str, Any], rows: Sequence[Row]) -> None:
    """All that was measured, as JSON."""
    content = {**about, "rows": [r.as_dict() for r in rows]}
    path.write_text(json.dumps(content, indent=1) + "\n")
