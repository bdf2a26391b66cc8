"""A run from its config to its results: recipes first, then the student, then one look at test."""

import copy
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from kdframe import build, checkpoint, parallel
from kdframe.allocator import keep_freed
from kdframe.arithmetic import FirstLoss
from kdframe.backbones import Backbone
from kdframe.build import Data
from kdframe.build_loss import blame
from kdframe.config import Config, ConfigError
from kdframe.evaluation import evaluate, watched
from kdframe.hooks import Hook
from kdframe.plan import Diverged
from kdframe.preflight import preflight
from kdframe.reports.complexity import complexity
from kdframe.reports.summary import header, table
from kdframe.resuming import began_with, go_on, refuse_other_config, refuse_other_student
from kdframe.run_files import read_json
from kdframe.run_folder import RunFolder, refuse_occupied
from kdframe.signals import stop_if
from kdframe.startup import Startup
from kdframe.teachers import cache_of, gate
from kdframe.trainer import BEST, Trainer
from kdframe.writing import write_json, write_text

log = logging.getLogger("kdframe")

RECIPES = Path("runs", "recipes")
SMALL = 1e9  # multiply-adds of a forward pass
THREADS = torch.get_num_threads()  # torch's own choice
Results = dict[str, Any]


def train(
    config: Config,
    folder: Path,
    *,
    resume: bool = False,
    wait: bool = False,
    latest: bool = False,
    asked: Callable[[], int] = lambda: 0,
    imports: float = 0.0,
    hooks: Sequence[Hook] = (),
    test: bool = True,
) -> Results:
    """Trains what ``config`` says in ``folder``, its recipes before it, and returns results.json.

    Args:
        config: of the run.
        folder: OUTPUT_DIR.
        resume: go on with what is there; a finished run only answers again.
        wait: wait while another process works in the folder.
        latest: make the link ``latest`` beside the folder point to it.
        asked: the signal to answer, polled between steps; 0 for none.
        imports: the seconds that they took, to be told.
        hooks: called beside the config's own; recipes don't get them.
        test: read the test split at the end; a search doesn't.

    Raises:
        ConfigError: the user's mistake; see ``kdframe.exit_codes`` for the others.
    """
    device = start(config)

    def look() -> None:
        stop_if(parallel.largest(asked()))

    first = parallel.rank() == 0
    with RunFolder(folder, wait, first, look=lambda: stop_if(asked())) as place:
        if resume:
            refuse_other_config(config, folder)
        elif first:
            refuse_occupied(folder)
        finished = parallel.from_first(read_json(folder / "results.json"))
        if finished and resume and finished.get("config") == config.digest():
            if not wait:  # a recipe's table was told when it was trained
                tell(finished, folder)
            place.say(state="done")  # it may have died between its results and this
            return finished
        build.precision_on(config, device)  # before images are read
        startup = Startup(imports)
        with startup.part("data"):  # all that can be wrong, before hours of recipes
            data = build.build_data(config, device)
        look()
        with startup.part("networks"):
            student, teachers = build.build_networks(config, data)
            trainer = build.build_trainer(config, data, student, teachers, folder, asked)
        look()
        with startup.part("checks"):
            preflight(config, data, trainer)
        trainer.hooks = [*trainer.hooks, FirstLoss(), startup, *hooks]
        begun = (folder / "run.json").exists()
        place.begin(config.tree.SEED, str(device), config.digest())
        if first:
            write_text(folder / "config.yaml", config.dump())
        if latest:
            place.link()
        files, baseline = recipes(config, asked)
        settle_threads(trainer)
        for line in header(config, data, trainer):
            log.info(line)
        for branch, teacher in teachers.items():
            build.load_weights(config, branch, teacher, files.get(branch, ""), data)
        look()
        with startup.part("teacher's test"):
            gate(config, data, trainer, teachers)
        trainer.fold()
        trainer.model.cache = cache_of(config, data, trainer)
        if resume:
            go_on(trainer, folder, told=begun or not wait)
        look()
        place.train()
        results = finish(trainer, data, teachers, baseline, test)
        if first:
            write_json(folder / "results.json", results)
        place.say(state="done")
        tell(results, folder)
    return results


def tell(results: Results, where: Path) -> None:
    """The closing table, to the console and log.txt."""
    for line in table(results, str(where)):
        log.info(line)


def start(config: Config) -> torch.device:
    """This process's device, with the arithmetic that the config asks for."""
    with blame(config, "DEVICE"):
        device = parallel.start(config.tree.DEVICE, config.tree.TIMEOUT)
    if device.type == "cpu":
        keep_freed()
    torch.use_deterministic_algorithms(config.tree.DETERMINISTIC)
    torch.backends.cudnn.benchmark = not config.tree.DETERMINISTIC
    return device


def settle_threads(trainer: Trainer) -> None:
    """One thread for a small network on a CPU, unless OMP_NUM_THREADS says how many.

    Threads that wait for each other in every layer gain nothing there, and on a machine that has
    other work they take ten times as long.  The rule sees the config only: a resumed run gets the
    same number, and with it the same bits.
    """
    if trainer.device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        work = trainer.batch_size * complexity(trainer.model.student).multiply_adds
        torch.set_num_threads(1 if work < SMALL else THREADS)


def recipes(config: Config, asked: Callable[[], int]) -> tuple[dict[str, str], Results | None]:
    """Files of weights by the teacher's branch, and the results of BASELINE; trains what is new."""
    files, baseline = {}, None
    for key, recipe in needed(config).items():
        folder = recipe_folder(recipe)
        how = "was" if (folder / "results.json").exists() else "is first"
        log.info("%s: %s %s trained in %s", key, recipe.path, how, folder)
        results = train(recipe, folder, resume=True, wait=True, asked=asked)
        if key == "BASELINE":
            baseline = results
        else:
            files[key.removesuffix(".CONFIG")] = str(folder / "student.safetensors")
    return files, baseline


def needed(config: Config) -> dict[str, Config]:
    """The recipes by their key, but of teachers whose WEIGHTS are there already."""
    return {
        key: recipe
        for key, recipe in config.recipes.items()
        if key == "BASELINE" or not config.tree[key.removesuffix(".CONFIG")].WEIGHTS
    }


def recipe_folder(recipe: Config) -> Path:
    """Where a recipe's run is, or will be: found by the digest of its config, under any name.

    A link to a study's row goes when the row was removed.
    """
    digest = recipe.digest()[:12]
    found = sorted(RECIPES.glob(f"*-{digest}"))
    there = [folder for folder in found if folder.exists()]
    for link in set(found) - set(there):
        link.unlink(missing_ok=True)
    return there[0] if there else RECIPES / f"{recipe.path.stem}-{digest}"


def finish(
    trainer: Trainer,
    data: Data,
    teachers: Mapping[str, Backbone],
    baseline: Results | None,
    test: bool = True,
) -> Results:
    """Trains to the end, saves the student, and reads the test split once if ``test``.

    Raises:
        Diverged: a network's weights are finite, and its answers to the test split aren't.
    """
    model = trainer.model
    frozen = [teacher for teacher in model.teachers if teacher is not model.partner]
    before = [checkpoint.digest(teacher.state_dict()) for teacher in frozen]
    trainer.train()
    if [checkpoint.digest(teacher.state_dict()) for teacher in frozen] != before:
        raise ConfigError(
            "TEACHER: it isn't the network any more that it was before training: a term of LOSS "
            "changed its weights or statistics, and its student is of no use."
        )
    trainer.save_weights("student.safetensors", trainer.deployed)
    if model.partner is not None:
        trainer.save_weights("teacher.safetensors", model.partner)
    networks = {"test": trainer.deployed}
    if trainer.val_loader is not None:
        networks["test_best"] = best_of(trainer)
    networks |= {branch.lower(): teacher for branch, teacher in teachers.items()}
    found = measure(trainer, networks, data) if test else {}
    for name, measured in found.items():
        if not math.isfinite(measured["nll"]):
            raise Diverged(f"diverged: on the test split the nll of {name} isn't finite.")
    results: Results = {
        "val": {k[4:]: v for k, v in trainer.metrics.items() if k.startswith("val/")},
        **found,
        "baseline": baseline and baseline["test"],
        "gain": found and baseline and found["test"]["top1"] - baseline["test"]["top1"],
        "agreement": found.get("test", {}).get("agreement"),
        "epochs": trainer.epochs,
        "steps": trainer.step,
        "seed": trainer.plan.seed,
        "config": trainer.plan.config,
        "seconds": round(trainer.seconds, 3),
        "images_per_second": round(trainer.step * trainer.batch_size / trainer.seconds, 1),
    }
    return {key: value for key, value in results.items() if value not in (None, {})}


def measure(trainer: Trainer, networks: dict[str, Backbone], data: Data) -> dict[str, Results]:
    """All of these networks in one pass over the test split."""
    batches = trainer.all(data.test)
    return {**evaluate(networks, batches, trainer.device, trainer.plan.precision)}


def best_of(trainer: Trainer) -> Backbone:
    """A copy of the student with the weights that were best on validation."""
    path = trainer.output_dir / BEST
    backbone = copy.deepcopy(trainer.deployed)
    weights = parallel.from_first(checkpoint.load_weights(path)[0] if path.exists() else {})
    checkpoint.fit(weights, backbone.network, path)
    return backbone


def eval_only(config: Config, folder: Path, asked: Callable[[], int] = lambda: 0) -> Results:
    """Reads the test split with a run's student, or with STUDENT.WEIGHTS unless the run began with
    them, and writes eval.json.

    Raises:
        ConfigError: the run in ``folder`` trained another student.
        NoCheckpoint: there is neither a student nor a checkpoint.
    """
    file = "" if began_with(config.tree.STUDENT.WEIGHTS, folder) else config.tree.STUDENT.WEIGHTS
    if not file:
        refuse_other_student(config, folder)
    device = start(config)
    precision = build.precision_on(config, device)
    data = build.build_data(config, device)
    student = build.build_deployed(config, len(data.about["classes"]), data.image)
    if not file and (folder / "student.safetensors").exists():
        file = str(folder / "student.safetensors")
    if file:
        build.load_weights(config, "STUDENT", student, file, data)
    else:
        state = checkpoint.newest(folder / "checkpoints")
        if state is None:
            raise checkpoint.NoCheckpoint(f"{folder}: there is no student and no checkpoint.")
        file = f"{folder} at step {state['step']}"
        student.network.load_state_dict(state["deployed"])
    size = config.tree.SOLVER.BATCH_SIZE
    batches = watched(data.test, size, lambda: stop_if(parallel.largest(asked())))
    build.place(config, student, device)
    found = evaluate({"test": student}, batches, device, precision)
    about = {"config": config.digest(), "dataset": config.plain()["DATASET"]}
    results: Results = {**found, "weights": file, **about}
    if parallel.rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "eval.json", results)
    tell(results, folder / "eval.json")
    return results
