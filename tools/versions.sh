#!/usr/bin/env bash
# One end of the ranges: tools/versions.sh lowest-direct | pinned | highest. An environment of its own, then the fast
# tests and notebooks 01 to 05 in it. Needs uv. Stored outputs belong to the pins; elsewhere notebooks only have to run.
# PYTHON chooses the Python; uv's own variables (UV_FIND_LINKS, UV_TORCH_BACKEND=cpu) where wheels come from.
set -euo pipefail
cd "$(dirname "$0")/.."
versions="$1"
venv=".venv-$versions"
limits=(--resolution "$versions")
notebooks=--nbval-lax
if [ "$versions" = pinned ]; then
    limits=(--constraint constraints.txt)
    notebooks=--nbval
fi
echo "$venv: the $versions versions of requirements.txt"
uv venv --clear --python "${PYTHON:-3.11}" "$venv"
# The one package without wheels is pure Python.
uv pip install --python "$venv" --only-binary :all: --no-binary pycocoevalcap "${limits[@]}" \
    -r requirements.txt -r tests/requirements.txt
echo "The fast tests, and notebooks 01 to 05 with $notebooks"
"$venv"/bin/python -m pytest tests "$notebooks" notebooks/0[1-5]*.ipynb
