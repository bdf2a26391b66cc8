"""LOSS -> terms, each tried before it is trained."""

import copy
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from kdframe import parallel
from kdframe.answers import OnDemand, each, of_teacher
from kdframe.backbones import Backbone, Output
from kdframe.config import Config, ConfigError
from kdframe.datasets import Batch
from kdframe.distillation import Term
from kdframe.plan import seed_of
from kdframe.registry import DISTILLERS, Registry, UnknownPart
from kdframe.teacher_cache import without_maps

STAGES = ("stage", "stages", "pairs")  # the ends of options' names
NOT_KEPT = {"preactivations", "teacher_preactivations", "teachers", "views"}  # by TEACHER.CACHE


def build_terms(
    config: Config, student: Backbone, teachers: Sequence[Backbone], labels: Callable[[], Tensor]
) -> list[Term]:
    """The terms of LOSS, each tried on probed outputs; ``labels`` is ``data.train.labels``."""
    terms, teacher = [], next(iter(teachers), None)
    for key, node in config.tree.LOSS.items():
        if node is None:
            continue
        name = key.split("/")[0]
        part, options = DISTILLERS[name], options_of(DISTILLERS, name, node)
        needs = frozenset(DISTILLERS.needs(name))
        torch.manual_seed(seed_of(config.tree.SEED, "LOSS", key))
        with blame(config, f"LOSS.{key}"):
            module = inspect.isclass(part)
            if module and config.tree.TEACHER.TRAIN:
                raise ValueError("it learns or keeps something for one student; TRAIN makes two.")
            loss: Any = functools.partial(part, **options)
            try:
                if module:
                    loss = part(student, teacher, **options)
                if "labels" in needs:
                    loss.set_labels(labels())
                cached = config.tree.TEACHER.CACHE != "off"
                if cached and (lost := NOT_KEPT & needs):
                    raise ValueError(
                        f"it needs {' and '.join(sorted(lost))}, and TEACHER.CACHE keeps one "
                        "teacher's logits and embedding alone."
                    )
                images = images_of(config, needs, options)
                maps = try_out(loss, needs, student, teachers, images, cached)
            except ValueError:
                check_stages(config, key, options, student, teacher)  # says whose
                raise
        needs_teacher = not DISTILLERS.does_without(name, "teacher")
        weight = (node.WEIGHT, node.WARMUP, node.START, node.STOP)
        terms.append(Term(key, loss, *weight, needs_teacher, needs, maps))
    deploying = [term.name for term in terms if hasattr(term.loss, "deployed")]
    if len(deploying) > 1:
        raise config.error("LOSS", f"only one of {' and '.join(deploying)} can make the student.")
    moments = {0.0, *(t.start for t in terms), *(t.stop for t in terms)}
    for epoch in sorted(m for m in moments if m < config.tree.SOLVER.EPOCHS):
        if not any(term.is_on(epoch) for term in terms):
            raise config.error("LOSS", f"no term is on at epoch {epoch:g} (START and STOP).")
    return terms


def try_out(
    loss: Callable[..., Tensor],
    needs: frozenset[str],
    student: Backbone,
    teachers: Sequence[Backbone],
    images: int,
    cached: bool = False,
) -> bool:
    """Calls a copy of a term on probed images: shapes and options that can't be, raise.

    Returns whether it read a teacher's feature maps.
    """
    read: set[int] = set()
    rows = 2 * images if "views" in needs else images

    def probed(backbone: Backbone, needs: frozenset[str]) -> Output:
        if "preactivations" in needs:
            _ = backbone.taps
        return each(lambda x: x.repeat(rows, *[1] * (x.dim() - 1)), backbone.probe())

    def watched(output: Output) -> Output:
        def look(stage: int) -> Tensor:
            read.add(stage)
            return output.features[stage]

        return output._replace(features=OnDemand(len(output.features), look))

    numbers = torch.arange(rows) % images
    batch = Batch(
        torch.zeros(rows, *student.input_size), numbers % student.num_classes, numbers, 0.0
    )
    outputs = tuple(watched(probed(teacher, of_teacher(needs))) for teacher in teachers)
    if cached:
        outputs = tuple(without_maps(output) for output in outputs)
    handed = outputs if "teachers" in needs else next(iter(outputs), None)
    with torch.no_grad():
        value = copy.deepcopy(loss)(probed(student, needs), handed, batch)
    if not isinstance(value, Tensor) or value.shape != ():
        found = f"one of {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise ValueError(f"a term returns a scalar tensor, not {found}.")
    return bool(read)


def images_of(config: Config, needs: frozenset[str], options: dict[str, Any]) -> int:
    """As many images as a term sees in a step, but at most 4 where their number isn't an option."""
    processes = 1 if "global_batch" in needs else parallel.world()
    solver = config.tree.SOLVER
    images: int = solver.BATCH_SIZE // (processes * solver.ACCUMULATE)
    return images if "batch_size" in options else min(images, 4)


def check_stages(
    config: Config, key: str, options: dict[str, Any], student: Backbone, teacher: Backbone | None
) -> None:
    """Raises for options named stage, stages and pairs that aren't stages of the networks.

    A pair among stages is the student's stage and the teacher's; one among ``pairs`` is two stages
    of either network.  ``student_stages`` and ``teacher_stages`` are those of one alone.
    """
    networks = (("STUDENT", student), ("TEACHER", teacher))
    for option in {name for name in options if name.endswith(STAGES)}:
        entries = (options[option],) if option == "stage" else options[option]
        pairs = [entry if isinstance(entry, tuple) else (entry, entry) for entry in entries]
        for i, (whose, network) in enumerate(networks):
            if option.endswith("_stages") and not option.startswith(whose.lower()):
                continue
            numbers = chain(*pairs) if option == "pairs" else (pair[i] for pair in pairs)
            with blame(config, f"LOSS.{key}.{option.upper()}"):
                try:
                    if network is not None:
                        network.stages_of(tuple(dict.fromkeys(numbers)))
                except ValueError as error:
                    raise ValueError(f"{whose}: {error}") from error


@contextmanager
def blame(config: Config, key: str) -> Iterator[None]:
    """What a part finds wrong becomes a sentence that names file and key; a fault notes them.

    An option that the sentence begins with is the key, where ``key`` is its branch.
    """
    try:
        yield
    except ConfigError:
        raise
    except (ValueError, UnknownPart, FileNotFoundError) as error:
        option = f"{key}.{str(error).partition(' ')[0].strip(':').upper()}"
        raise config.error(option if has(config.tree, option) else key, str(error)) from error
    except Exception as error:
        error.add_note(f"{config.source(key)}: {key}")
        raise


def has(tree: Any, key: str) -> bool:
    """Whether a tree has that dotted key."""
    for part in key.split("."):
        if not isinstance(tree, dict) or part not in tree:
            return False
        tree = tree[part]
    return True


def options_of(registry: Registry, name: str, branch: Any) -> dict[str, Any]:
    """A part's options as its branch of the config says them."""
    return {option: branch[option.upper()] for option in registry.options(name)}
