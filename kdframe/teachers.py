"""Teachers before they teach: whether they know anything, and what they have said before."""

import hashlib
import json
import logging
from collections.abc import Mapping

import torch

from kdframe import __version__, checkpoint, parallel
from kdframe.backbones import Backbone
from kdframe.build import Data
from kdframe.config import Config
from kdframe.evaluation import chance, evaluate
from kdframe.teacher_cache import HOME, TeacherCache
from kdframe.trainer import Trainer

log = logging.getLogger("kdframe")

NO_ANSWER = ("WEIGHTS", "CONFIG", "CACHE", "CACHE_EPOCHS", "TRAIN")  # keys that change none


def gate(config: Config, data: Data, trainer: Trainer, teachers: Mapping[str, Backbone]) -> None:
    """Measures every teacher, by its branch, before it teaches.

    Raises:
        ConfigError: it isn't above chance, and nobody said ``WEIGHTS: random`` or ``TRAIN``.
    """
    if not teachers:
        return
    loader, where = (data.val, "validation") if data.val else (data.train, "training")
    measured = evaluate(teachers, trainer.all(loader), trainer.device, trainer.plan.precision)
    for branch, found in measured.items():
        log.info(
            "%s  %.2f %% of %d %s images", branch.lower(), found["top1"], found["images"], where
        )
        least = chance(len(data.about["classes"]), int(found["images"]))
        said = config.tree[branch].WEIGHTS == "random" or config.tree[branch].TRAIN
        if found["top1"] <= least and not said:
            raise config.error(
                branch,
                f"it names {found['top1']:.2f} % of the {where} images rightly, and chance reaches "
                f"{least:.2f} %. Are its weights this dataset's? WEIGHTS: random says it on "
                "purpose.",
            )


def cache_of(config: Config, data: Data, trainer: Trainer) -> TeacherCache | None:
    """The teacher's answers to this run's views, kept by TEACHER.CACHE; says how large they get.

    Raises:
        ConfigError: processes on several machines, which share no file.
    """
    branch, teacher = config.tree.TEACHER, trainer.model.teacher
    if branch.CACHE == "off" or teacher is None:
        return None
    if parallel.world() != parallel.local_world():
        raise config.error("TEACHER.CACHE", "it takes processes of one machine.")
    solver, device = config.tree.SOLVER, trainer.device
    same = {
        "teacher": {key: branch[key] for key in branch if key not in NO_ANSWER},
        "weights": checkpoint.digest(teacher.state_dict()),
        "data": [config.tree.DATASET.AUGMENT, data.image, data.about, data.train.fingerprint()],
        "seed": config.tree.SEED,
        "kind": branch.CACHE,
        "arithmetic": [solver.PRECISION, solver.COMPILE, solver.CHANNELS_LAST, device.type],
        "folded": trainer.model.is_folded,
        "versions": [__version__, torch.__version__],
    }
    key = hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:16]
    cache = TeacherCache(
        HOME / key,
        rows=data.train.rows_in_split,
        classes=teacher.num_classes,
        width=teacher.embedding_size,
        kind=branch.CACHE,
        epochs=branch.CACHE_EPOCHS,
        device=device,
        about={"BATCH_SIZE": solver.BATCH_SIZE, "processes": parallel.world()},
    )
    log.info("cache    %s", cache.describe(trainer.epochs))
    return cache
