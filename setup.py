"""Name, version and dependencies of kdframe: the one place of each."""

import re
from itertools import chain
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
CONFIGS = [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("configs/**/*.yaml"))]
EXTRAS = {
    "digits": ["scikit-learn"],
    "export": ["onnx", "onnxruntime", "onnxscript"],
    "postgresql": ["psycopg2-binary"],  # studies on many machines
}
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "kdframe/__init__.py").read_text())[1]


class BuildWithConfigs(build_py):
    """Copies configs/ into the package of a wheel; an editable install reads them where they are.

    As a package of its own (``package_dir``) it would make an editable install one by import
    hooks, which type checkers and editors can't follow.
    """

    def get_source_files(self):
        """What an sdist holds."""
        return [*super().get_source_files(), *CONFIGS]

    def run(self):
        """Builds, and copies."""
        super().run()
        for config in [] if self.editable_mode else CONFIGS:
            copy = Path(self.build_lib, "kdframe", config)
            self.mkpath(str(copy.parent))
            self.copy_file(config, str(copy))


setup(
    name="kdframe",
    version=VERSION,
    description="Knowledge distillation for image classification: verified losses, honest runs",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["kdframe", "kdframe.*"]),
    package_data={"kdframe": ["py.typed", "reports/*.j2", "reports/*.css", "reports/*.js"]},
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
        "packaging",
        "scipy",
        "optuna>=5",
        "jinja2",
    ],
    extras_require={
        **EXTRAS,
        "test": [
            *chain(*EXTRAS.values()),
            "pytest",
            "setuptools>=77",
            "hypothesis",
            "nbclient",
            "nbformat",
            "ipykernel",
        ],
        "dev": ["ruff", "mypy", "types-PyYAML"],
    },
    entry_points={
        "console_scripts": ["kdframe = kdframe.commands.dispatch:main"],
        "kdframe.datasets": ["digits = kdframe.datasets.digits:digits"],
    },
    cmdclass={"build_py": BuildWithConfigs},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
