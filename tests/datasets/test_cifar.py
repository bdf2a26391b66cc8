"""CIFAR's archives, as tiny ones in their format."""

import functools
import hashlib
import io
import pickle
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets

from kdframe.datasets.cifar import cifar10, cifar100

KINDS = {
    cifar10: (torchvision.datasets.CIFAR10, "label_names", "labels"),
    cifar100: (torchvision.datasets.CIFAR100, "fine_label_names", "fine_labels"),
}


@pytest.fixture(params=KINDS)
def part(request, tmp_path, monkeypatch):
    """cifar10 or cifar100, whose archive of two images a file lies in ``tmp_path/mirror``."""
    kind, names, labels = KINDS[request.param]
    files = [name for name, _ in kind.train_list + kind.test_list]
    content = {
        name: {"data": np.full((2, 3072), i, dtype=np.uint8), labels: [i % 2, 1]}
        for i, name in enumerate(files)
    }
    content[kind.meta["filename"]] = {names: ["cat", "dog"]}
    (tmp_path / "mirror").mkdir()
    archive = tmp_path / "mirror" / kind.filename
    md5 = {}
    with tarfile.open(archive, "w:gz") as tar:
        for name, value in content.items():
            raw = pickle.dumps(value)
            md5[name] = hashlib.md5(raw).hexdigest()
            info = tarfile.TarInfo(f"{kind.base_folder}/{name}")
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    for which in ("train_list", "test_list"):
        monkeypatch.setattr(kind, which, [[n, md5[n]] for n, _ in getattr(kind, which)])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5[kind.meta["filename"]]})
    monkeypatch.setattr(kind, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(kind, "url", (tmp_path / "nowhere").as_uri())
    return request.param


def test_an_archive_placed_by_hand_is_read_without_download(part, tmp_path) -> None:
    data = part("test", root=str(tmp_path / "mirror"))
    files = {cifar10: 6, cifar100: 2}[part]
    assert data.images[0, 0, 0, 0] == files - 1  # the last file's pixels
    assert data.targets.tolist() == [(files - 1) % 2, 1]
    assert list(data.classes) == ["cat", "dog"]
    assert len(part("train", root=str(tmp_path / "mirror"))) == 2 * (files - 1)


def archive_in(folder: Path) -> Path:
    return next(folder.glob("*.tar.gz"))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def mirror(part, tmp_path) -> Iterator[str]:
    """The address of the archive on a server of this machine."""
    handler = functools.partial(Quiet, directory=str(tmp_path / "mirror"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{archive_in(tmp_path / 'mirror').name}"
        server.shutdown()


def test_a_mirror_is_asked_when_download_is_said(part, mirror, tmp_path) -> None:
    assert len(part("test", root=str(tmp_path / "new"), download=True, url=mirror)) == 2


def test_nothing_is_downloaded_unasked(part, tmp_path) -> None:
    url = archive_in(tmp_path / "mirror").as_uri()
    with pytest.raises(
        ValueError, match=r"DOWNLOAD true.*URL.*place cifar-.*-python.tar.gz.* there"
    ):
        part("test", root=str(tmp_path / "new"), url=url)


def test_an_archive_of_another_md5_is_refused(part, mirror, tmp_path) -> None:
    archive = archive_in(tmp_path / "mirror")
    archive.write_bytes(archive.read_bytes()[:-1])
    with pytest.raises(ValueError, match="there, but broken or another file"):
        part("test", root=str(tmp_path / "mirror"))
    with pytest.raises(ValueError, match=r"gave no file of md5"):
        part("test", root=str(tmp_path / "new"), download=True, url=mirror)


def test_a_mirror_that_is_not_there_is_named(part, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"file://.*/nowhere gave no file"):
        part("test", root=str(tmp_path / "new"), download=True)


def test_a_split_that_is_not_there_is_refused(part, tmp_path) -> None:
    with pytest.raises(ValueError, match="no split 'val': it has train and test"):
        part("val", root=str(tmp_path / "mirror"))
