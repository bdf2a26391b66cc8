"""kdframe's own keys: their defaults, what they take, and which of them contradict each other.

A part's options aren't here: its signature says them, and they join the part's branch.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Literal

from kdframe.layers import Layer
from kdframe.values import ConfigError, Key, shown, take, unknown


def above(low: float) -> tuple[str, Callable[[Any], bool]]:
    """A bound in words, and as a test."""
    return f" above {low}", lambda value: value > low


def at_least(low: float) -> tuple[str, Callable[[Any], bool]]:
    """A bound in words, and as a test."""
    return f" of at least {low}", lambda value: value >= low


FRACTION = (" from 0 to below 1", lambda value: 0 <= value < 1)
RISING = (" rising from 1 on", lambda steps: all(a < b for a, b in pairwise((0, *steps))))
HELD_OUT = (
    " of at least 0 (a fraction, or from 1 on whole images)",
    lambda value: value >= 0 and (value < 1 or value % 1 == 0),
)

BRANCHES: dict[str, dict[str, Key]] = {
    "": {
        "MODULES": Key((), tuple[str, ...]),
        "OUTPUT_DIR": Key("", str),
        "SEED": Key(0, int, " from 0 to below 2**63", lambda seed: 0 <= seed < 2**63),
        "DEVICE": Key("auto", Literal["auto", "cpu", "cuda", "mps"]),
        "DETERMINISTIC": Key(False, bool),
        "TIMEOUT": Key(30.0, float, *above(0)),  # minutes that one process waits for another
        "BASELINE": Key("", str),
    },
    "STUDENT": {"NAME": Key("", str), "WEIGHTS": Key("", str)},
    "TEACHER": {  # and TEACHER/2, TEACHER/...: more of them
        "NAME": Key("", str),
        "WEIGHTS": Key("", str),
        "CONFIG": Key("", str),
        "TRAIN": Key(False, bool),
        "CACHE": Key("off", Literal["off", "fp32", "fp16"]),
        "CACHE_EPOCHS": Key(0, int, *at_least(0)),
    },
    "DATASET": {
        "NAME": Key("", str),
        "VAL": Key(0.1, float, *HELD_OUT),
        "WORKERS": Key(2, int, *at_least(0)),
        "AUGMENT": Key("none", Literal["none", "crop_flip", "resized_crop"]),
    },
    "LOSS": {  # of every term
        "WEIGHT": Key(1.0, float),
        "WARMUP": Key(0.0, float, *at_least(0)),
        "START": Key(0.0, float, *at_least(0)),
        "STOP": Key(0.0, float, *at_least(0)),
    },
    "SOLVER": {
        "EPOCHS": Key(40, int, *at_least(1)),
        "BATCH_SIZE": Key(128, int, *at_least(1)),
        "OPTIMIZER": Key("sgd", str),
        "LR": Key(0.05, float, *above(0)),
        "MOMENTUM": Key(0.9, float, *FRACTION),
        "NESTEROV": Key(False, bool),
        "WEIGHT_DECAY": Key(5e-4, float, *at_least(0)),
        "SCHEDULE": Key("cosine", Literal["constant", "steps", "cosine"]),
        "STEPS": Key((), tuple[int, ...], *RISING),
        "GAMMA": Key(0.1, float, *above(0)),
        "WARMUP_EPOCHS": Key(0.0, float, *at_least(0)),
        "CLIP_GRAD": Key(0.0, float, *at_least(0)),
        "ACCUMULATE": Key(1, int, *at_least(1)),
        "EMA": Key(0.0, float, *FRACTION),
        "SYNC_BN": Key(False, bool),
        "PRECISION": Key("fp32", Literal["fp32", "bf16", "fp16"]),
        "COMPILE": Key(False, bool),
        "CHANNELS_LAST": Key(True, bool),
    },
    "CHECKPOINT": {"MINUTES": Key(10.0, float, *at_least(0)), "KEEP": Key(2, int, *at_least(2))},
    "HOOKS": {},  # of every hook
}
ENTRIES = ("LOSS", "HOOKS")  # one mapping a part, and null for none
CLOSED = ("SOLVER", "CHECKPOINT")  # no part's options join
WEIGHTS = {"STUDENT": ("pretrained",), "TEACHER": ("pretrained", "random")}  # or a file
HOOKS = ("progress", "metrics", "tensorboard", "complexity", "curves")

MOMENTUM = ("sgd", "momentum", "nesterov", "lars", "larc", "rmsprop", "muon", "madgrad", "kron")


def branch_of(name: str) -> str:
    """The branch whose keys a dotted name's are: TEACHER for TEACHER/2.WEIGHTS."""
    top = name.partition(".")[0]
    return "TEACHER" if top.startswith("TEACHER/") else top


def is_path(name: str) -> bool:
    """Whether a key names another config, relative to the file that the key stands in."""
    return name == "BASELINE" or (branch_of(name) == "TEACHER" and name.endswith(".CONFIG"))


def teachers_of(tree: Mapping[str, Any]) -> list[str]:
    """The branches of all teachers, TEACHER first."""
    return ["TEACHER", *sorted(name for name in tree if name.startswith("TEACHER/"))]


def defaults() -> dict[str, Any]:
    """The tree as it is when nobody sets anything."""
    tree: dict[str, Any] = {
        branch: {} if branch in ENTRIES else {key: own.default for key, own in keys.items()}
        for branch, keys in BRANCHES.items()
    }
    tree["HOOKS"] = {hook: {} for hook in HOOKS}
    return {**tree.pop(""), **tree}


def checked(layer: Layer, known: list[str]) -> Layer:
    """A layer with kdframe's own keys as they are held; options wait for their part.

    Raises:
        ConfigError: a key that can't be one, or a value that its key doesn't take.
    """
    data: dict[str, Any] = {}
    for name, value in layer.data.items():
        if name in BRANCHES[""]:
            data[name] = own_value(layer, name, value, BRANCHES[""][name])
        elif branch_of(name) not in BRANCHES:
            number = name.partition("/")[2] or name.removeprefix("TEACHER")
            more = [f"TEACHER/{number}"] if number not in ("", name) else []
            raise unknown(layer.source, name, [*more, *known], layer.lines.get(name, 0))
        elif name in ENTRIES and isinstance(value, dict):
            data[name] = {
                entry: None if given is None else branch(layer, f"{name}.{entry}", given, known)
                for entry, given in value.items()
            }
        else:
            data[name] = branch(layer, name, value, known)
    return layer._replace(data=data)


def branch(layer: Layer, at: str, given: Any, known: list[str]) -> dict[str, Any]:
    """One branch, or one entry of LOSS or HOOKS, checked."""
    top, entry = branch_of(at), at.partition(".")[2]
    if not isinstance(given, dict):
        also = ", or null to drop it" if entry else ""
        raise ConfigError(
            f"{layer.source}: {at} takes a mapping{also}, not {shown(given)}.",
            layer.lines.get(at, 0),
        )
    held = {}
    for key, value in given.items():
        if key in BRANCHES[top]:
            held[key] = own_value(layer, f"{at}.{key}", value, BRANCHES[top][key])
        elif top in CLOSED or key != key.upper():
            name = f"{at}.{key}"
            raise unknown(layer.source, name, known, layer.lines.get(name, 0))
        else:
            held[key] = value
    return held


def own_value(layer: Layer, name: str, value: Any, key: Key) -> Any:
    """The value of one of kdframe's own keys; a path as it is reached from the working folder."""
    value = take(layer.source, name, value, key, layer.lines.get(name, 0))
    return str(layer.folder / value) if is_path(name) and value else value


def written(layers: Iterable[Layer]) -> dict[str, list[str]]:
    """The keys that stand where a part's options join, right or wrong."""
    found: dict[str, list[str]] = {}
    for layer in layers:
        for name, value in layer.data.items():
            if isinstance(value, dict) and branch_of(name) in BRANCHES and name not in CLOSED:
                places = value if name in ENTRIES else {"": value}
                for entry, given in places.items():
                    keys = given if isinstance(given, dict) else {}
                    found.setdefault(f"{name}.{entry}".strip("."), []).extend(keys)
    return found


def known_keys(options: Mapping[str, Iterable[str]]) -> list[str]:
    """Every key that there is when these branches have these options besides kdframe's own."""
    places = {**{name: () for name in BRANCHES if name not in ENTRIES}, **options}
    return [
        *ENTRIES,
        "_BASE_",
        *(
            f"{at}.{key}".strip(".")
            for at, joined in places.items()
            for key in ("", *BRANCHES[branch_of(at)], *joined)
        ),
    ]


def contradictions(tree: Any) -> Iterator[tuple[str, str]]:
    """Settings that can't stand together: the key to blame, and why."""
    solver = tree["SOLVER"]
    terms = {name: term for name, term in tree["LOSS"].items() if term is not None}
    for name in ("STUDENT.NAME", "DATASET.NAME"):
        branch, key = name.split(".")
        if not tree[branch][key]:
            yield name, "nothing is named here, and there is no default."
    for name in teachers_of(tree)[1:]:
        if tree[name]["TRAIN"]:
            yield f"{name}.TRAIN", "only TEACHER can learn with the student."
        if tree[name]["CACHE"] != "off":
            yield f"{name}.CACHE", "only TEACHER's answers are kept."
    if tree["TEACHER"]["CACHE"] != "off" and tree["TEACHER"]["TRAIN"]:
        yield "TEACHER.CACHE", "a teacher that learns gives another answer every time."
    if not tree["LOSS"]:
        yield "LOSS", "it has no term; a run needs one, as in LOSS: {cross_entropy: {}}."
    elif not terms:
        name = next(iter(tree["LOSS"]))
        yield "LOSS", f"every term is null, which drops it; one without options is {name}: {{}}."
    for name, term in terms.items():
        if 0 < term["STOP"] <= term["START"]:
            yield f"LOSS.{name}.STOP", f"{term['STOP']} isn't after START, {term['START']}."
    if solver["SCHEDULE"] == "steps" and not solver["STEPS"]:
        yield "SOLVER.SCHEDULE", "steps needs STEPS, the epochs to lower LR at."
    if solver["WARMUP_EPOCHS"] >= solver["EPOCHS"]:
        yield (
            "SOLVER.WARMUP_EPOCHS",
            f"it takes less than EPOCHS, {solver['EPOCHS']}, not {solver['WARMUP_EPOCHS']:g}.",
        )
    if solver["BATCH_SIZE"] % solver["ACCUMULATE"]:
        yield (
            "SOLVER.ACCUMULATE",
            f"{solver['ACCUMULATE']} doesn't divide BATCH_SIZE, {solver['BATCH_SIZE']}.",
        )
    if solver["NESTEROV"] and not solver["MOMENTUM"]:
        yield "SOLVER.NESTEROV", "it needs MOMENTUM above 0."


def without_effect(tree: Any) -> Iterator[tuple[str, str]]:
    """Settings that another setting makes idle, and why."""
    solver = tree["SOLVER"]
    for name, term in tree["LOSS"].items():
        if term is None:
            continue
        end = min(term["STOP"] or solver["EPOCHS"], solver["EPOCHS"])
        if term["START"] >= solver["EPOCHS"]:
            yield f"LOSS.{name}.START", "the term has no effect: the run is over by then."
        elif term["START"] + term["WARMUP"] > end:
            yield f"LOSS.{name}.WARMUP", f"it ends after epoch {end:g}: WEIGHT is never reached."
    for name in teachers_of(tree):
        if tree[name]["CACHE_EPOCHS"] and tree[name]["CACHE"] == "off":
            yield f"{name}.CACHE_EPOCHS", "it has no effect under CACHE off."
    late = [step for step in solver["STEPS"] if step >= solver["EPOCHS"]]
    if solver["SCHEDULE"] == "steps" and late:
        yield "SOLVER.STEPS", f"{shown(late)} has no effect: the run has {solver['EPOCHS']} EPOCHS."
    changed = {key for key, own in BRANCHES["SOLVER"].items() if solver[key] != own.default}
    if solver["SCHEDULE"] != "steps":
        for key in sorted(changed & {"STEPS", "GAMMA"}):
            yield f"SOLVER.{key}", f"it has no effect under SCHEDULE {solver['SCHEDULE']}."
    if "NESTEROV" in changed and solver["OPTIMIZER"] != "sgd":
        yield "SOLVER.NESTEROV", f"it has no effect on OPTIMIZER {solver['OPTIMIZER']}."
    if "MOMENTUM" in changed and not any(word in solver["OPTIMIZER"] for word in MOMENTUM):
        yield "SOLVER.MOMENTUM", f"it has no effect on OPTIMIZER {solver['OPTIMIZER']}."
