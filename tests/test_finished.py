"""A run's folder that was damaged, or that another program wrote: the broken file is named."""

import json
import re

import pytest

from kdframe import finished
from kdframe.config import ConfigError

CONFIG = "DATASET: {NAME: glyphs}\nSTUDENT: {NAME: resnet8}\nLOSS: {cross_entropy: {}}\n"
MEASURED = {"top1": 60.0, "top5": 95, "nll": 0.7, "ece": 0.05}
RESULTS = {"config": "ab", "steps": 9, "test": MEASURED}
RUN = {
    "state": "done", "config": "ab", "kdframe": "0.1", "python": "3.11", "device": "cpu",
    "git": "", "start": "", "seed": 0, "command": ["train_net.py"], "versions": {},
}  # fmt: skip


def without(content: dict, key: str) -> str:
    return json.dumps({k: value for k, value in content.items() if k != key})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.yaml", "[1,2]"),
        ("config.yaml", ""),
        ("config.yaml", "a: ["),
        ("config.yaml", "a: \xff"),
        ("config.yaml", "a: !!python/name:os.system"),
        ("config.yaml", f"{CONFIG}TEACHER: 3"),
        ("run.json", without(RUN, "config")),
        ("run.json", without(RUN, "kdframe")),
        ("run.json", json.dumps({**RUN, "versions": 3})),
        ("results.json", "{"),
        ("results.json", "[]"),
        ("results.json", "{}"),
        ("results.json", without(RESULTS, "config")),
        ("results.json", json.dumps({**RESULTS, "test": 3})),
        ("results.json", json.dumps({**RESULTS, "baseline": {"top1": "x"}})),
        ("results.json", json.dumps({**RESULTS, "gain": "x"})),
    ],
)
def test_a_broken_file_is_named(folder, name, text) -> None:
    (folder / name).write_text(text, "latin-1")
    with pytest.raises(ConfigError, match=re.escape(str(folder / name))):
        finished.read(folder)


def test_a_whole_folder_is_read_up_to_its_weights(folder) -> None:
    with pytest.raises(ConfigError, match=r"holds no student\.safetensors"):
        finished.read(folder)
