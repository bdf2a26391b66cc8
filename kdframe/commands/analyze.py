"""Prints what a config's student and teacher cost, without training: counts and times."""

import argparse
from collections.abc import Sequence

from kdframe.commands import usage
from kdframe.config import load

EXAMPLES = """examples:
  tools/analyze_model.py --config-file configs/kd_feature.yaml
  tools/analyze_model.py --config-file configs/kd_feature.yaml STUDENT.NAME resnet20
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = usage.parser("analyze", __doc__, EXAMPLES)
    p.add_argument("--config-file", required=True, metavar="FILE", help="whose networks")
    p.add_argument("--debug", action="store_true", help="show the traceback of an error")
    p.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="also KEY=VALUE")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    """Answers what is wrong with the config before torch is imported."""
    args = parser().parse_intermixed_args(argv)
    config = load(args.config_file, args.overrides)

    from kdframe import build, run
    from kdframe.reports import complexity, latency

    device = run.start(config)
    dataset = build.build_dataset(config, "test")
    sizes = len(dataset.classes), (3, *dataset.size)
    networks = {"student": build.build_deployed(config, *sizes)}
    if config.tree.TEACHER.NAME:
        networks["teacher"] = build.build_backbone(config, "TEACHER", *sizes)
    counts = {name: complexity.complexity(network) for name, network in networks.items()}
    print(complexity.as_markdown(counts))
    batches = (1, min(config.tree.SOLVER.BATCH_SIZE, 128))
    times = {
        name: {size: latency.seconds(network, size, device) for size in batches}
        for name, network in networks.items()
    }
    print(latency.as_markdown(times, device), end="")
