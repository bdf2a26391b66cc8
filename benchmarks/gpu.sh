#!/usr/bin/env bash
# The benchmark on one GPU, in under eight minutes; without a GPU it says so and exits 0.
#   benchmarks/gpu.sh [--json FILE] [--pairs TEACHER-STUDENT ...] [--batches IMAGES ...]
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHONPATH=$PWD exec "${PYTHON:-python3}" -m benchmarks.gpu "$@"
