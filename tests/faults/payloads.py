"""Pickles that would run code: each makes a folder, ``ran``, where it is loaded without care."""

import io
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import torch


class Payload:
    """Unpickled, it makes the folder ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.path,)


def raw(content: object) -> bytes:
    return pickle.dumps(content)


def legacy(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def zipped(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def scripted(content: object) -> bytes:
    """As TorchScript's archives, which torch.load knows by a member's name."""
    file = io.BytesIO(zipped(content))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("archive/constants.pkl", raw(content))
    return file.getvalue()


def tarred(content: object) -> bytes:
    """As torch wrote before version 0.1.10."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in ("storages", "tensors", "pickle"):
            info = tarfile.TarInfo(name)
            info.size = len(raw(content))
            archive.addfile(info, io.BytesIO(raw(content)))
    return file.getvalue()


LIVE = ("raw", "legacy", "zipped")  # torch itself refuses code in the others
FORMS = {form.__name__: form for form in (raw, legacy, zipped, scripted, tarred)}
