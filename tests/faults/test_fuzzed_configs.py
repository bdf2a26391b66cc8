"""Whatever stands in a config: it loads, or it is answered in one line, and no more happens."""

import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdframe.config import ConfigError, load
from kdframe.schema import BRANCHES
from kdframe.yaml_text import parse

ROOT = Path(__file__).parents[2]
SHIPPED = [
    "configs/kd_feature.yaml",
    "configs/cifar10/tuned/kd_response.yaml",
    "configs/cifar100/ensemble/kd_ensemble.yaml",
    "configs/cifar100/mutual/dml.yaml",
    "configs/cifar100/resnet56_resnet20/reviewkd.yaml",
]
OWN = sorted({key for keys in BRANCHES.values() for key in keys} | set(BRANCHES))
NAMES = [*OWN, "kd", "feature", "cross_entropy", "kd/2", "TEACHER/2", "metrics", "_BASE_", "off"]

texts = st.text(max_size=12)
numbers = st.one_of(
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from([10**400, -1, 0, 2**63, 1e308]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts, st.sampled_from(NAMES))
keys = st.one_of(st.sampled_from(NAMES), texts)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)
pieces = st.sampled_from(
    ["&a ", "*a", "!!int ", "!!python/name:os.system ", "- ", "? ", ": ", "{", "}", "[", "]", "|\n",
     "---\n", "%YAML 9\n", "\t", "\x00", "\x1b[2J", "\u202e", "\ud800", "\ufeff", "\n", "#", "<<: ",
     "'", '"', "9" * 5000, "[" * 500, "0x" + "f" * 5000, "1:30", "\r"]
)  # fmt: skip


@st.composite
def trees(draw: st.DrawFn) -> tuple[str, str]:
    """A shipped config with some of its values or keys replaced by anything, and its name."""
    name = draw(st.sampled_from(SHIPPED))
    tree, lines = parse((ROOT / name).read_text(), name)
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from(sorted(lines))).split(".")
        inner = tree
        for word in above:
            inner = inner.get(word) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            if draw(st.booleans()):
                inner[last] = draw(values)
            else:
                inner[draw(keys)] = inner.pop(last, draw(values))
    return name, yaml.safe_dump(tree, sort_keys=False, allow_unicode=draw(st.booleans()))


@st.composite
def scribbles(draw: st.DrawFn) -> tuple[str, str]:
    """A shipped config's text with something written into it, or some of it left out."""
    name = draw(st.sampled_from(SHIPPED))
    text = (ROOT / name).read_text()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        gone = draw(st.integers(0, 5))
        text = text[:at] + draw(pieces | texts) + text[at + gone :]
    return name, text


@st.composite
def anything(draw: st.DrawFn) -> tuple[str, str]:
    """A whole tree of nothing but anything."""
    tree = draw(st.dictionaries(keys, values, max_size=5))
    return SHIPPED[0], yaml.safe_dump(tree, sort_keys=False)


def fuzzed(folder: Path, cases: int, count) -> None:
    shutil.copytree(ROOT / "configs", folder / "configs")
    loaded, answered = [], []

    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(trees(), scribbles(), anything()))
    def one(case: tuple[str, str]) -> None:
        name, text = case
        path = (folder / name).with_name("x.yaml")
        path.write_bytes(text.encode(errors="surrogatepass"))
        try:
            config = load(path)
        except ConfigError as error:
            said = str(error)
            assert said.isprintable() and 10 < len(said) < 3000
            answered.append(said)
        else:
            (folder / "again.yaml").write_text(config.dump())
            assert load(folder / "again.yaml").digest() == config.digest()
            loaded.append(text)

    one()
    count("fuzzed configs that load, to themselves when they are written", len(loaded))
    count("fuzzed configs answered in one line", len(answered), of=len(answered))
    assert len(loaded) > cases // 50
    assert len(set(answered)) > cases // 4  # it isn't one fault that hides the others


def test_a_config_loads_or_is_answered_in_one_line(tmp_path, monkeypatch, count) -> None:
    monkeypatch.chdir(tmp_path)
    fuzzed(tmp_path, 200, count)


@pytest.mark.faults
def test_two_thousand_configs_load_or_are_answered(tmp_path, monkeypatch, count) -> None:
    monkeypatch.chdir(tmp_path)
    fuzzed(tmp_path, 2000, count)


@pytest.mark.faults
def test_words_of_a_command_line_load_or_are_answered(tmp_path, monkeypatch, count) -> None:
    monkeypatch.chdir(tmp_path)
    answered = []

    @settings(max_examples=1000, deadline=None, database=None, derandomize=True)
    @given(st.lists(st.tuples(keys, keys, values).map(lambda t: f"{t[0]}.{t[1]}={t[2]}") | texts))
    def one(words: list[str]) -> None:
        try:
            load(ROOT / "configs/student.yaml", words)
        except ConfigError as error:
            assert str(error).isprintable()
            answered.append(error)

    one()
    count("fuzzed command lines answered in one line", len(answered), of=len(answered))
