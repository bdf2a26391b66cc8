"""Name, version and dependencies of kdframe: the one place of each."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "kdframe/__init__.py").read_text())[1]

setup(
    name="kdframe",
    version=VERSION,
    description="Knowledge distillation for image classification: verified losses, honest runs",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["kdframe", "kdframe.*"]),
    package_data={"kdframe": ["py.typed"]},
    install_requires=[
        "torch>=2.10",  # earlier ones have holes in weights_only
        "torchvision",
        "timm>=1.0.20",
        "fvcore",
        "yacs",
        "pyyaml",
        "numpy",
        "pillow>=10.1",  # the first with a scalable built-in face
        "rich",
        "tensorboard>=2.21",  # 2.20 dies beside setuptools 82
        "matplotlib",
        "safetensors",
    ],
    extras_require={
        "digits": ["scikit-learn"],
        "test": ["pytest", "scikit-learn", "setuptools>=77"],
        "dev": ["ruff", "mypy", "types-PyYAML"],
    },
    entry_points={"kdframe.datasets": ["digits = kdframe.datasets.digits:digits"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
