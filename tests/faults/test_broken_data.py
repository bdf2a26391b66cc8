"""Broken data sets under the real command: the file or what gave out is named, in one line."""

import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
TRAIN = str(ROOT / "tools/train_net.py")
CONFIG = """
DATASET: {NAME: image_folder, ROOT: images, VAL: 4, WORKERS: 2, STREAM: true}
STUDENT: {NAME: cifar_resnet, DEPTH: 8, WIDTH: 4, STRIDE: 2}
SOLVER: {EPOCHS: 1, BATCH_SIZE: 8}
LOSS: {cross_entropy: {}}
HOOKS: {tensorboard: null, curves: null}
"""
PIECES = 12  # images a class and split


@pytest.fixture
def images(lab) -> Path:
    """Two classes in two splits, read by two workers."""
    lab.write("folder.yaml", CONFIG)
    for split in ("train", "test"):
        for k, name in enumerate(("cat", "dog")):
            folder = lab.where / "images" / split / name
            folder.mkdir(parents=True)
            for i in range(PIECES):
                Image.new("RGB", (16, 16), (100 * k + i, 0, 0)).save(folder / f"{i}.png")
    return lab.where / "images"


def run(lab, *words: str, before: Callable[[], None] | None = None, via: tuple[str, ...] = ()):
    """The command, with what is done to its process before it starts."""
    return subprocess.run(
        [*via, sys.executable, TRAIN, "--config-file", "folder.yaml", "OUTPUT_DIR=out", *words],
        cwd=lab.where,
        capture_output=True,
        text=True,
        preexec_fn=before,
        timeout=240,
    )


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, (done.returncode, done.stderr)
    *others, last = done.stderr.splitlines()
    assert not others or all("Warning" in line or line.startswith("  ") for line in others)
    assert last.startswith("error: ")
    for word in words:
        assert word in last, last


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.faults), 2])
def test_a_truncated_image_is_named_also_from_a_worker(lab, images, workers, count) -> None:
    for split, name, i in (("train", "cat", 5), ("test", "dog", 3)):
        cut(images / split / name / f"{i}.png")
    done = run(lab, f"DATASET.WORKERS={workers}")
    refused(done, 2, ".png is no whole image", "images/")
    count("broken data sets answered in one line", 1, of=1)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda root: (root / "train/cat/0.png").write_bytes(b""), ["train/cat/0.png is no whole"]),
        (lambda root: shutil.rmtree(root / "test/dog"), ["test lacks the class 'dog'"]),
        (lambda root: (root / "test/dog").rename(root / "test/.dog"), ["lacks the class 'dog'"]),
        (lambda root: (root / "test/dog").rename(root / "test/wolf"), ["class"]),
        (lambda root: shutil.rmtree(root / "train"), ["needs train/"]),
        (
            lambda root: [p.rename(p.with_suffix(".txt")) for p in (root / "train/cat").iterdir()],
            ["train/cat has no image"],
        ),
        (lambda root: (root / "train/cat/x.png").symlink_to("nowhere"), ["x.png is no file"]),
        (
            lambda root: Image.new("RGB", (20, 16)).save(root / "train/dog/7.png"),
            ["7.png is (16, 20)", "set SIZE"],
        ),
    ],
    ids=["empty", "missing", "hidden", "other", "no train", "no images", "dangling", "size"],
)
def test_a_broken_data_set_is_refused_by_name(lab, images, break_it, words, count) -> None:
    break_it(images)
    done = run(lab)
    refused(done, 2, *words)
    count("broken data sets answered in one line", 1, of=1)


def few_descriptors(most: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@pytest.mark.faults
@pytest.mark.parametrize("most", [14, 18, 22, 26])
def test_too_few_file_descriptors_say_so(lab, images, most, count) -> None:
    """Wherever they run out: in a library that is imported, in this process or in a worker."""
    done = run(lab, "DATASET.WORKERS=4", before=few_descriptors(most))
    if done.returncode:
        refused(done, 6, "too few file descriptors")
        count("descriptors that ran out and said so", 1, of=1)


def has_namespaces() -> bool:
    """Whether this user may mount a file system that nobody else sees."""
    words = ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/dev/shm"]
    return (
        shutil.which("unshare") is not None
        and subprocess.run(words, capture_output=True).returncode == 0
    )


@pytest.mark.faults
@pytest.mark.parametrize("size", ["4k", "16k", "32k"])
def test_a_full_shared_memory_says_so(lab, images, size, count) -> None:
    """When the queues are made, or when a batch is handed over."""
    if not has_namespaces():
        pytest.skip("only root may mount a small /dev/shm")
    mount = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"'
    done = run(lab, via=("unshare", "--mount", "sh", "-c", mount, "sh"))
    refused(done, 6, "/dev/shm")
    count("full shared memories that said so", 1, of=1)
