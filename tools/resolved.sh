#!/usr/bin/env bash
# Whether every package of the pins has a wheel on each system and Python of the course, and all of them fit. Needs uv.
set -euo pipefail
cd "$(dirname "$0")/.."
export MACOSX_DEPLOYMENT_TARGET=14.0  # what the wheels of PyTorch and bitsandbytes ask for
for system in x86_64-manylinux_2_28 aarch64-manylinux_2_28 aarch64-apple-darwin windows; do
    for python in 3.11 3.12 3.13 3.14; do
        # The one package without wheels is pure Python.
        count=$("${UV:-uv}" pip compile --quiet --no-annotate --no-header requirements.txt tests/requirements.txt \
            --constraint constraints.txt --python-platform "$system" --python-version "$python" \
            --only-binary :all: --no-binary pycocoevalcap | grep -c ==)
        echo "$system, Python $python: $count packages"
    done
done
