"""A package outside of kdframe with a part of each kind."""

from setuptools import setup

setup(
    name="my_lab",
    version="0.1.0",
    packages=["my_lab"],
    install_requires=["kdframe"],
    entry_points={  # name in a config = where it is; loaded only when the name is asked for
        "kdframe.backbones": ["my_convnet = my_lab.backbones:my_convnet"],
        "kdframe.datasets": ["my_stripes = my_lab.datasets:my_stripes"],
        "kdframe.distillers": ["my_logit_mse = my_lab.distillers:my_logit_mse"],
        "kdframe.hooks": ["my_weight_norm = my_lab.hooks:MyWeightNorm"],
    },
)
