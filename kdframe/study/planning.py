"""The runs behind a study's rows: recipes before those that need them, and none of them twice."""

import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from kdframe.config import Config, ConfigError
from kdframe.layers import Layer, mapping_in
from kdframe.run import needed, recipe_folder
from kdframe.run_files import read_json, require
from kdframe.schema import is_path
from kdframe.study.serving import cannot_serve
from kdframe.study.written import Row, Study
from kdframe.values import shown


@dataclass(frozen=True)
class Planned:
    """One run.

    Attributes:
        key: its name in this study: ``kd/s0``, or the recipe's file and digest.
        row: the row that it is of; empty for a recipe that is no row.
        seed: SEED.
        config: the whole of it.
        digest: of the config.
        folder: where it is trained.
        file: the config's file.
        words: settings that follow it on a command line.
        at: where in that config this one is the recipe of; empty for the config itself.
        needs: the keys of the runs that must be done before.
        link: what ``folder`` points to, where the run is a recipe as well.
    """

    key: str
    row: str
    seed: int
    config: Config
    digest: str
    folder: Path
    file: Path
    words: tuple[str, ...]
    at: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    link: Path | None = None

    def command(self) -> list[str]:
        """The command line that trains the very same."""
        if self.at:
            words = [*flat(self.config.shared), f"SEED={self.config.tree.SEED}"]
            return training(self.config.path, *words)
        return training(self.file, *self.settings())

    def settings(self) -> list[str]:
        """The words after ``file`` on the command line of the run that has this one ``at`` it."""
        return [*self.words] if self.at else [*self.words, f"OUTPUT_DIR={self.folder}"]

    def state(self) -> str:
        """Of what its folder holds: new, begun (running, stopped or died), failed or done."""
        state, digest = self.said("run.json", "state"), self.said("results.json", "config")
        if digest == self.digest:
            return "done"
        if state is None:
            return "new"
        return "failed" if state == "failed" else "begun"

    def said(self, name: str, key: str) -> Any:
        """What a file of its folder says of ``key``; None where there is no file.

        Raises:
            ConfigError: the file is broken.
        """
        content = read_json(self.folder / name)
        if content is None:
            return None
        require(self.folder / name, content, key)
        return content[key]


@dataclass(frozen=True)
class Plan:
    """All runs of a study in the order in which one process takes them.

    ``notes`` are sentences for the user: settings without effect, teachers that aren't cached.
    """

    study: Study
    runs: Mapping[str, Planned]
    notes: tuple[str, ...] = field(default=())

    def only(self, rows: Collection[str], seeds: Collection[int]) -> "Plan":
        """What these rows and seeds need; nothing picked is everything."""
        kept = {
            run.key
            for run in self.runs.values()
            if run.row and (not rows or run.row in rows) and (not seeds or run.seed in seeds)
        }
        for key in reversed([*self.runs]):  # those that need come after what they need
            kept |= {*self.runs[key].needs} if key in kept else set()
        return replace(self, runs={key: run for key, run in self.runs.items() if key in kept})


def training(file: Path, *words: str) -> list[str]:
    """The command line that trains a config, called as the study is: by a script, or installed."""
    script = Path(sys.argv[0]).name == "run_study.py"
    command = ["tools/train_net.py"] if script else ["kdframe", "train"]
    return [*command, "--config-file", str(file), *words]


def plan(study: Study) -> Plan:
    """Every run that a study needs; imports the parts that its configs name.

    Raises:
        ConfigError: a config that is wrong, or two rows that are one.
    """
    notes: dict[str, None] = {}
    rows = dict[str, Planned]()  # by digest
    for row in study.rows.values():
        more = cache_layers(study, row, notes)
        for seed in row.seeds:
            planned = planned_row(study, row, seed, more)
            for warning in planned.config.warnings:
                notes[f"warning: {warning}"] = None
            if (same := rows.get(planned.digest)) is not None:
                raise study.error(
                    f"ROWS.{row.name}", f"with seed {seed} it is the very run that {same.key} is."
                )
            rows[planned.digest] = planned
    for digest in {recipe.digest() for recipe in all_recipes(rows.values())} & rows.keys():
        rows[digest] = replace(rows[digest], link=recipe_folder(rows[digest].config))
    runs: dict[str, Planned] = {}  # by digest
    for planned in sorted(rows.values(), key=lambda run: run.seed):  # all rows of a seed first
        add(planned, rows, runs)
    recipes = [run for run in runs.values() if not run.row or run.link]
    others = [run for run in runs.values() if run.row and not run.link]
    return Plan(study, {run.key: run for run in (*recipes, *others)}, tuple(notes))


def planned_row(
    study: Study,
    row: Row,
    seed: int,
    more: Sequence[Layer],
    key: str = "",
    folder: Path | None = None,
) -> Planned:
    """The run of a row with a seed; ``key`` and ``folder`` where they aren't a table's."""
    config = study.draft(row, seed, more).load()
    return Planned(
        key=key or f"{row.name}/s{seed}",
        row=row.name,
        seed=seed,
        config=config,
        digest=config.digest(),
        folder=folder or study.output_dir / row.name / f"s{seed}",
        file=row.config,
        words=(*words_of(row.layers), *words_of(more), f"SEED={seed}"),
    )


def add(run: Planned, rows: Mapping[str, Planned], runs: dict[str, Planned]) -> Planned:
    """Puts a run into ``runs``, behind the recipes that it needs, once."""
    if run.digest in runs:
        return runs[run.digest]
    needs = []
    for key, recipe in needed(run.config).items():
        digest = recipe.digest()
        its_own = replace(
            run,
            key=f"{recipe.path.stem}-{digest[:12]}",
            row="",
            seed=recipe.tree.SEED,
            config=recipe,
            digest=digest,
            folder=recipe_folder(recipe),
            at=(*run.at, key),
            link=None,
        )
        needs.append(add(rows.get(digest, its_own), rows, runs).key)
    runs[run.digest] = replace(run, needs=tuple(needs))
    return runs[run.digest]


def all_recipes(runs: Iterable[Planned]) -> Iterator[Config]:
    """The recipes that runs need, and the recipes' own."""
    waiting = [run.config for run in runs]
    while waiting:
        found = list(needed(waiting.pop()).values())
        yield from found
        waiting.extend(found)


def cache_layers(study: Study, row: Row, notes: dict[str, None]) -> list[Layer]:
    """The setting that keeps the teacher's answers, if the row's terms do with what is kept."""
    teacher = study.draft(row, row.seeds[0]).tree.TEACHER
    if study.cache == "off" or not teacher.NAME or teacher.TRAIN or teacher.CACHE != "off":
        return []
    data = {"TEACHER": {"CACHE": study.cache}}
    layer = Layer(f"{study.path}: TEACHER_CACHE", Path(), data)
    why = cannot_serve(study.draft(row, row.seeds[0], [layer]).load())
    if why:
        notes[f"{row.name}: its teacher answers live: {why}"] = None
        return []
    return [layer]


def words_of(layers: Iterable[Layer]) -> list[str]:
    """Layers as ``KEY=VALUE`` words, their paths as reached from the working folder."""
    words = []
    for layer in layers:
        for key, value in dotted(layer.data):
            reached = os.path.relpath(layer.folder / value) if value and is_path(key) else value
            words.append(f"{key}={shown_whole(reached)}")
    return words


def flat(data: Mapping[str, Any]) -> list[str]:
    """Nested settings as ``KEY=VALUE`` words."""
    return [f"{key}={shown_whole(value)}" for key, value in dotted(data)]


def dotted(data: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted keys of nested settings with their values; an empty mapping is a value."""
    for key, value in data.items():
        if isinstance(value, dict) and value:
            yield from dotted(value, f"{at}{key}.")
        else:
            yield f"{at}{key}", value


def shown_whole(value: Any) -> str:
    """A value as YAML in one line; nothing for an empty string."""
    if value == "":
        return ""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


def refuse_changed(study_plan: Plan) -> None:
    """A study whose configs changed under its runs would compare what isn't comparable.

    Raises:
        ConfigError: with the row, the key, what it was and what it is.
    """
    for run in study_plan.runs.values():
        about = read_json(run.folder / "run.json") or {"trained": False}
        path = run.folder / "config.yaml"
        if not run.row or not about.get("trained", True) or not path.exists():
            continue
        changed = run.config.differences(mapping_in(path)[0])
        way_out = "what is there stays: another OUTPUT_DIR or another row starts anew."
        for key, old, new in changed:
            raise study_plan.study.error(
                f"ROWS.{run.row}",
                f"{key} was {shown(old)} in {run.folder}, and is {shown(new)} now; {way_out}",
            )
        if about.get("config", run.digest) != run.digest:
            raise study_plan.study.error(
                f"ROWS.{run.row}",
                f"a recipe or a file of weights isn't what {run.folder} began with; {way_out}",
            )


def settle_link(run: Planned) -> None:
    """Makes a row that is a recipe as well the one folder under two names.

    Raises:
        ConfigError: something stands where the link would.
    """
    if run.link is None:
        return
    for name in (run.folder, run.link):
        if name.is_symlink() and not name.exists():  # what it led to was removed
            name.unlink(missing_ok=True)
    if not run.folder.exists():
        run.link.mkdir(parents=True, exist_ok=True)  # first, so that no link leads nowhere
        make_link(run.folder, run.link)
    elif not run.folder.is_symlink() and not run.link.exists():
        make_link(run.link, run.folder)  # it was trained here before it was anyone's recipe


def make_link(name: Path, target: Path) -> None:
    """A symbolic link that stays right when the folder above both is moved."""
    name.parent.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        name.symlink_to(os.path.relpath(target.absolute(), name.parent.resolve()))
    except FileExistsError:  # another worker made it
        if not name.is_symlink():
            raise ConfigError(f"{name} is in the way of a link to {target}.") from None
