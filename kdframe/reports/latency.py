"""How long a network takes."""

import copy
import statistics
import time
from collections.abc import Mapping

import torch

from kdframe.backbones import Backbone
from kdframe.reports.complexity import table

WARM_UP = 3  # the first passes choose algorithms and fill caches


def seconds(
    backbone: Backbone, batch_size: int, device: torch.device, at_least: float = 1.0
) -> float:
    """The median time of a forward pass in eval mode, over ``at_least`` seconds of passes.

    It is measured on a copy, with black images that are on the device already.
    """
    network = copy.deepcopy(backbone).eval().to(device)
    image = torch.zeros(batch_size, *backbone.input_size, device=device)
    times: list[float] = []
    with torch.inference_mode():
        while len(times) < 2 * WARM_UP or sum(times[WARM_UP:]) < at_least:
            started = time.perf_counter()
            network(image)
            if device.type != "cpu":
                torch.accelerator.synchronize(device)
            times.append(time.perf_counter() - started)
    return statistics.median(times[WARM_UP:])


def as_markdown(times: Mapping[str, Mapping[int, float]], device: torch.device) -> str:
    """A page of ``times``: the seconds of a pass, by network and images in it."""
    rows = [
        [name, str(size), f"{1000 * median:.2f}", f"{size / median:,.0f}"]
        for name, network in times.items()
        for size, median in network.items()
    ]
    threads = torch.get_num_threads()
    on = f"{device}, {threads} thread{'s' if threads > 1 else ''}"
    head = f"## Time of a forward pass on {on}, float32\n\n"
    return head + table(["", "images", "median ms", "images/s"], rows)
