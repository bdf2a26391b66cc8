"""Run folders as they might lie there, and a Chromium to open a page in."""

import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kdframe.reports import runs

EVIL = '"><script>window.stolen=1</script>'
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
PATIENCE = 120  # seconds


def write_run(folder: Path, seed: int, top1: float, epochs: int = 5, **about: Any) -> None:
    """A finished run with a baseline of 50 and a teacher of 90 percent."""
    folder.mkdir(parents=True)
    said = {"top1": top1, "top5": 95.0, "nll": 0.7, "ece": 0.05}
    results = {
        "val": {"top1": top1},
        "test": {**said, "agreement": 75.0, "images": 300.0},
        "test_best": said,
        "teacher": {**said, "top1": 90.0},
        "baseline": {**said, "top1": 50.0 + seed},
        "gain": top1 - 50.0 - seed,
        "agreement": 75.0,
        "seed": seed,
        "config": "ab" * 32,
        "seconds": 12.5,
    }
    command = ["/home/me/kdframe/tools/train_net.py", "--config-file", "x.yaml", "SEED", str(seed)]
    run = {
        "command": command, "kdframe": "0.1", "python": "3.11", "versions": {"torch": "2.10"},
        "git": "", "seed": seed, "config": "ab" * 32, "device": "cpu",
        "start": "2026-01-02T03:04:05+0000", "state": "done",
    }  # fmt: skip
    lines = [{"step": 1, "epoch": 0.1, "loss": 3.0, "loss/kd": 2.0, "lr": 0.1}]
    for epoch in range(1, epochs + 1):
        row = {"step": epoch, "epoch": epoch, "train/loss": 3 / epoch, "train/kd": 2 / epoch}
        lines.append({**row, "train/cross_entropy": 1 / epoch, "val/top1": top1 * epoch / epochs})
    cost = {"parameters": 1000, "multiply_adds": 50000}
    costs = {"student": cost, "teacher": {key: 10 * value for key, value in cost.items()}}
    for name, content in (("run", {**run, **about}), ("results", results), ("complexity", costs)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def analysis(classes: list[str], seed: int = 0) -> dict[str, Any]:
    """As of ``kdframe.analysis``, with numbers that mean nothing."""
    draw, K = random.Random(seed), len(classes)
    square = [[draw.uniform(-0.5, 0.5) for _ in classes] for _ in classes]
    diagram = {"count": [20.0] * 15, "confidence": [i + 0.5 for i in range(15)],
               "accuracy": [float(i) for i in range(15)]}  # fmt: skip
    network = {"top1": 60.0, "nll": 0.7, "ece": 0.05, "reliability": diagram}
    alike = {"agreement": 75.0, "kl": 0.3, "kendall": 0.7, "spearman": 0.8,
             "correlation_error": 0.1, "correlation": square}  # fmt: skip
    term = {"weight": 1.0, "value": 0.5, "norm": 0.9, "share": 0.995, "cosine": -0.2}
    terms = {"cross_entropy": term, "kd": {**term, "share": 0.005}}
    return {
        "about": {"dataset": "made_up", "loss": "L = cross_entropy + kd"},
        "images": 300,
        "classes": classes,
        "class_images": [10] * K,
        "networks": {
            who: {**network, "right": [draw.randint(0, 10) for _ in classes]}
            for who in ("student", "teacher", "baseline")
        },
        "likeness": {
            "student": {**alike, "cka": [[0.9, 0.2], [0.3, None]], "cka_images": 300,
                        "shapes": [[[4, 8, 8]] * 2] * 2},
            "baseline": alike,
        },
        "gradients": [
            {"step": step, "epoch": 0.0, "batches": 4, "terms": terms,
             "warnings": {"kd": "0.5 % of the gradient: it does nearly nothing."}}
            for step in (0, 5)
        ],
        "latency": {"threads": 1, "student": 0.002, "teacher": 0.01},
        "costs": {},
        "recipes": {},
        "notes": [],
        "seconds": 1.0,
    }  # fmt: skip


def make_study(
    folder: Path, rows: list[str], seeds: int, classes: list[str], epochs: int = 5
) -> runs.Study:
    """A study on disk, read, and with analyses."""
    for i, row in enumerate(rows):
        for seed in range(seeds):
            write_run(folder / row / f"s{seed}", seed, 60.0 + 3 * i + seed, epochs)
    study = runs.read(folder)
    for run in (run for row in study.rows for run in row.runs):
        run.analysis = analysis(classes, run.seed)
    return study


class Tab:
    """A page in a headless Chromium, over the DevTools protocol on a pipe."""

    def __init__(self, profile: Path) -> None:
        commands, self.out = os.pipe()
        self.into, answers = os.pipe()
        words = [
            CHROMIUM or "", "--headless", "--no-sandbox", "--disable-gpu",
            "--disable-dev-shm-usage", "--no-first-run", f"--user-data-dir={profile}",
            "--remote-debugging-pipe", "about:blank",
        ]  # fmt: skip
        shell = ["bash", "-c", f'exec "$@" 3<&{commands} 4>&{answers}', "bash", *words]
        self.process = subprocess.Popen(
            shell, pass_fds=(commands, answers), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(commands)
        os.close(answers)
        self.number, self.rest, self.session = 0, b"", ""
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> Any:
        """Sends a command and returns its answer."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def read(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            part = os.read(self.into, 2**20)
            assert part, "chromium ended"
            self.rest += part
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def open(self, path: Path, width: int = 1280, height: int = 900) -> None:
        """Opens a file in a window of that size, and waits until it is there."""
        mobile = width < 600
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height,
                 deviceScaleFactor=1, mobile=mobile)  # fmt: skip
        self.ask("Page.navigate", url=path.resolve().as_uri())
        until = time.monotonic() + PATIENCE
        while self.run("document.readyState + location.protocol") != "completefile:":
            assert time.monotonic() < until
            time.sleep(0.05)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def move(self, selector: str, x: float = 0.5, y: float = 0.5) -> None:
        """The pointer over an element, at a part of its width and height."""
        box = self.run(
            f"(e => {{ e.scrollIntoView({{block: 'center', behavior: 'instant'}});"
            "const b = e.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; })"
            f"(document.querySelector({json.dumps(selector)}))"
        )
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=box[0] + x * box[2],
                 y=box[1] + y * box[3])  # fmt: skip

    def press(self, key: str) -> None:
        """A key, on what has the focus."""
        text = {"Enter": "\r"}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            code = {"Enter": 13, "ArrowLeft": 37, "Home": 36, "Escape": 27}[key]
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code,
                     **({"text": text} if text and kind == "keyDown" else {}))  # fmt: skip

    def complaints(self) -> list[Any]:
        """Errors and warnings of the console, and what was asked of a network."""
        self.run("0")
        found = []
        for event in self.events:
            params, kind = event.get("params", {}), event.get("method")
            logged = kind == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning")
            if kind in ("Runtime.exceptionThrown", "Log.entryAdded") or logged:
                found.append(params)
            elif kind == "Network.requestWillBeSent":
                url = params["request"]["url"]
                if not url.startswith(("file:", "data:", "about:")):
                    found.append(url)
        return found

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)
        os.close(self.out)
        os.close(self.into)


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    if CHROMIUM is None or shutil.which("bash") is None:
        pytest.skip("no chromium is installed (Debian: apt install chromium)")
    tab = Tab(tmp_path / "profile")
    yield tab
    tab.close()


@pytest.fixture
def evil() -> str:
    return EVIL


@pytest.fixture(name="write_run")
def write_run_fixture() -> Any:
    return write_run


@pytest.fixture(name="make_study")
def make_study_fixture() -> Any:
    return make_study
