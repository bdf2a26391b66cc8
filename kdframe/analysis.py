"""What a finished run's networks say, hold and were taught by: measured once, kept in its folder.

The run is rebuilt from its config.yaml.  What can't be (a teacher whose file is gone) is left out,
and the reason is kept with the rest.
"""

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdframe import __version__, build, checkpoint, writing
from kdframe.backbones import Backbone
from kdframe.build import Data
from kdframe.build_loss import build_terms
from kdframe.config import Config, ConfigError
from kdframe.datasets import Batch
from kdframe.distillation import Distillation
from kdframe.gradients import term_gradients, warnings
from kdframe.loading import EVALUATION, order
from kdframe.rebuilt import ERRORS, Rebuilt, beginning, rebuild
from kdframe.reports import latency, similarity
from kdframe.reports.calibration import by_class, reliability
from kdframe.reports.charts import smaller
from kdframe.reports.complexity import complexity
from kdframe.reports.runs import Study
from kdframe.reports.summary import formula
from kdframe.run_files import read_json
from kdframe.schema import teachers_of

FILE = "analysis.json"
FORMAT = 2  # of that file
BATCH = 128
CKA_IMAGES = 2048
GRADIENT_BATCHES = 4
LATENCY_SECONDS = 0.5
WIDEST = 256  # classes of a map that is kept; of more, means of neighbours are


def analyse(folder: Path, device: torch.device, images: int = 0) -> dict[str, Any]:
    """A new analysis of a finished run, which is kept in its folder where that can be written.

    Args:
        folder: OUTPUT_DIR.
        device: asked for all but the latency, which is the CPU's.
        images: of the test split, drawn at random; 0 for all.

    Raises:
        ConfigError: the folder's config can't be loaded, or doesn't make the run it holds.
    """
    started = time.perf_counter()
    run = rebuild(folder, device)
    found: dict[str, Any] = {
        "key": digest(folder, images),
        "kdframe": __version__,
        "about": {
            "dataset": run.config.tree.DATASET.NAME,
            "loss": formula(run.config.tree.LOSS),
        },
        **measure(run, device, images),
        "gradients": gradients(run, folder, device),
        "latency": latencies(run.networks),
        "costs": costs(run.networks),
        "recipes": {who: str(where) for who, where in run.recipes.items()},
        "notes": run.notes,
        "seconds": round(time.perf_counter() - started, 1),
    }
    found = plain(found)
    try:
        writing.write_json(folder / FILE, found)
    except OSError as error:
        found["notes"].append(f"couldn't be kept: {error}")
    return found


def kept(folder: Path, images: int) -> dict[str, Any]:
    """The analysis that lies in a folder, if it is of these weights and images; else empty."""
    known = read_json(folder / FILE)
    return known if known and known.get("key") == digest(folder, images) else {}


def digest(folder: Path, images: int) -> str:
    """What an analysis depends on: the student's weights, the run's config, how much is read."""
    results = read_json(folder / "results.json") or {}
    weights = hashlib.sha256((folder / "student.safetensors").read_bytes()).hexdigest()
    counted = [FORMAT, __version__, results.get("config"), weights, images]
    return hashlib.sha256(json.dumps(counted).encode()).hexdigest()


def measure(run: Rebuilt, device: torch.device, images: int) -> dict[str, Any]:
    """One pass of all networks over the test split, in an order without meaning."""
    for network in run.networks.values():
        network.eval()
    student, teacher = run.networks["student"], run.networks.get("teacher")
    stages = similarity.StageCKA()
    logits: dict[str, list[Tensor]] = {who: [] for who in run.networks}
    targets = []
    with torch.no_grad():
        for batch in shuffled(run.data, images):
            outputs = {who: network(batch.image) for who, network in run.networks.items()}
            for who, output in outputs.items():
                logits[who].append(output.logits.float().cpu())
            targets.append(batch.target.cpu())
            if teacher is not None and stages.images < CKA_IMAGES:
                stages.add(outputs["student"].features, outputs["teacher"].features)
    target, all_logits = torch.cat(targets), {who: torch.cat(z) for who, z in logits.items()}
    pairs = {
        who: likeness(all_logits[who], all_logits["teacher"])
        for who in ("student", "baseline")
        if who in all_logits and teacher is not None
    }
    if stages.images and teacher is not None:
        pairs["student"] |= {"cka": stages.result().tolist(), "cka_images": stages.images}
        pairs["student"]["shapes"] = [student.shapes, teacher.shapes]
    return {
        "images": len(target),
        "classes": list(map(str, run.data.about["classes"])),
        "class_images": by_class(all_logits["student"], target)[0],
        "networks": {who: alone(z, target) for who, z in all_logits.items()},
        "likeness": pairs,
    }


def shuffled(data: Data, images: int) -> Iterator[Batch]:
    """The test split, or that many of its images: the same at every call, whatever their order."""
    loader = data.test
    chosen = order(len(loader), 0, EVALUATION)[: images or None].to(loader.items.device)
    for image, target, item in loader.raw(list(torch.split(chosen, BATCH)), EVALUATION):
        yield Batch(loader.normalised(image), target, item, 0.0)


def alone(logits: Tensor, target: Tensor) -> dict[str, Any]:
    """A network by itself; ``right`` are each class's images that it names rightly."""
    found, (_, right) = reliability(logits, target), by_class(logits, target)
    return {
        "top1": 100 * sum(right) / len(target),
        "nll": float(F.cross_entropy(logits.double(), target)),
        "ece": found.ece,
        "right": right,
        "reliability": asdict(found),
    }


def likeness(student: Tensor, teacher: Tensor) -> dict[str, Any]:
    """Of two networks' logits; ``correlation`` is the difference of maps, the teacher's first."""
    kendall, spearman = similarity.rank_agreement(student, teacher)
    difference = similarity.correlation_difference(student, teacher)
    off_diagonal = max(difference.numel() - len(difference), 1)
    return {
        "agreement": similarity.agreement(student, teacher),
        "kl": similarity.divergence(student, teacher),
        "kendall": kendall,
        "spearman": spearman,
        "correlation_error": float(difference.abs().sum()) / off_diagonal,
        "correlation": [[round(x, 4) for x in row] for row in smaller(difference.tolist(), WIDEST)],
    }


def gradients(run: Rebuilt, folder: Path, device: torch.device) -> list[dict[str, Any]]:
    """Each term's part in the student's gradient: at the first step, and at the last checkpoint."""
    config, data = run.config, run.data
    if len(run.teachers) < len([b for b in teachers_of(config.tree) if config.tree[b].NAME]):
        return []  # the note about the teacher is there already
    try:
        student = first(config, "STUDENT", config.tree.STUDENT.WEIGHTS, data)
        teachers = tuple(run.teachers.values())
        if config.tree.TEACHER.TRAIN:
            partner = first(config, "TEACHER", beginning(config, "TEACHER"), data)
            teachers = (partner, *teachers[1:])
        terms = build_terms(config, student.to("cpu"), cpu(teachers), data.train.labels)
        teacher, *others = teachers or (None,)
        model = Distillation(
            student, teacher, terms, others=others, mutual=config.tree.TEACHER.TRAIN
        )
        model.to(device)
        for network in teachers:
            network.to(device)
        state = checkpoint.newest(folder / "checkpoints")
        found = []
        if not any(hasattr(term.loss, "prepare") for term in terms):
            found.append(of_terms(model, config, data, 0))
        if state is not None:
            student.network.load_state_dict(state["student"])
            model.learned.load_state_dict(state["learned"])
            if model.partner is not None:
                model.partner.network.load_state_dict(state["partner"])
            found.append(of_terms(model, config, data, state["step"]))
    except ERRORS as error:
        run.notes.append(f"gradients are left out: {str(error).splitlines()[-1]}")
        return []
    return found


def first(config: Config, branch: str, file: str, data: Data) -> Backbone:
    """A network that is trained, as it was at the first step."""
    network = build.build_backbone(config, branch, len(data.about["classes"]), data.image)
    build.load_weights(config, branch, network, file, data)
    return network


def cpu(networks: tuple[Backbone, ...]) -> tuple[Backbone, ...]:
    """The same networks there: terms are tried on it."""
    return tuple(network.to("cpu") for network in networks)


def of_terms(model: Distillation, config: Config, data: Data, step: int) -> dict[str, Any]:
    """At the weights of a step, on the first batches of the epoch that it ends."""
    size = config.tree.SOLVER.BATCH_SIZE // config.tree.SOLVER.ACCUMULATE
    steps = data.train.steps(config.tree.SOLVER.BATCH_SIZE)
    epoch = max(math.ceil(step / steps) - 1, 0)
    views = any("views" in term.needs for term in model.terms)
    batches = data.train.train(epoch, size, views=views, stop=GRADIENT_BATCHES)
    found = term_gradients(model, batches)
    warming = [term.name for term in model.terms if epoch < term.start + term.warmup]
    return {
        "step": step,
        "epoch": step / steps,
        "batches": min(GRADIENT_BATCHES, data.train.steps(size)),
        "terms": {name: asdict(term) for name, term in found.items()},
        "warnings": warnings(found, warming),
    }


def latencies(networks: Mapping[str, Backbone]) -> dict[str, Any]:
    """Seconds of a forward pass of one image on the CPU, of student and teachers."""
    device = torch.device("cpu")
    return {
        "threads": torch.get_num_threads(),
        **{
            who: latency.seconds(network, 1, device, LATENCY_SECONDS)
            for who, network in networks.items()
            if who != "baseline"
        },
    }


def costs(networks: Mapping[str, Backbone]) -> dict[str, Any]:
    """Parameters and multiply-adds of student and teachers."""
    counts = {who: complexity(n) for who, n in networks.items() if who != "baseline"}
    return {
        who: {"parameters": count.parameters, "multiply_adds": count.multiply_adds}
        for who, count in counts.items()
    }


def plain(value: Any) -> Any:
    """What JSON can hold: a number that isn't finite is None."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def analyse_all(study: Study, device: torch.device | None, images: int) -> Iterator[str]:
    """Hands every finished run its analysis; says of each what was done, or why it can't be.

    Without a device no network is asked: only what is known from before is handed over.
    """
    for run in (run for row in study.rows for run in row.done):
        try:
            if "test" not in run.results:
                raise ConfigError("a search's trial never reads the test split.")
            run.analysis = known = kept(run.folder, images)
            if device is not None and (not known or known["notes"]):
                run.analysis = analyse(run.folder, device, images)
        except ERRORS as error:
            why = str(error).splitlines()[-1]
            run.notes.append(f"its networks weren't asked: {why}")
            yield f"{run.folder}  not analysed: {why}"
            continue
        if run.analysis:
            took = f"{run.analysis['seconds']:.0f} s"
            took = "known from before" if run.analysis is known else took
            yield f"{run.folder}  {run.analysis['images']:,} test images, {took}"
            for note in run.analysis["notes"]:
                yield f"{run.folder}  {note}"
