"""Whether TEACHER.CACHE can serve a config's terms: they are tried on what would be kept."""

import torch

from kdframe.build import build_backbone
from kdframe.build_loss import build_terms
from kdframe.config import Config, ConfigError

CLASSES, IMAGES = 10, 64
SIZES = (32, 224)  # pixels; a network may take one of them only


def cannot_serve(config: Config) -> str:
    """Why a term can't be served; empty if all can.

    Args:
        config: with TEACHER.CACHE on.  Its data aren't looked at, and its weights aren't loaded.
    """
    why = ""
    for size in SIZES:
        try:
            student, teacher = (
                build_backbone(config, branch, CLASSES, (3, size, size))
                for branch in ("STUDENT", "TEACHER")
            )
        except ConfigError as error:
            why = str(error)
            continue
        try:
            build_terms(config, student, [teacher], lambda: torch.arange(IMAGES) % CLASSES)
        except ConfigError as error:
            return str(error)
        return ""
    return why
