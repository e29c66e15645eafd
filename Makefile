# make lab   opens the course; make test   passes its fast tests and runs its notebooks; make test-slow   the slow tests;
# make soak   what chance decides, thirty rounds each; make bench   measures the course against the guide. Each makes the
# virtual environment first, or completes it.
#   make lab PYTHON=python3.12          which Python makes the environment (a new one if another made it before)
#   make lab TORCH=cuda                 PyTorch for an NVIDIA GPU, or TORCH=cpu; otherwise what the machine has
#   make lab LAB_ARGS="--port 9999"     what JupyterLab is to be told
ifeq ($(origin PYTHON),undefined)
PYTHON  := python3
else
INSTALL := --this-python
endif
VENV ?= .venv
BIN  := $(VENV)/bin
UV   ?= uv

# Containers and rented machines know no user but root, and JupyterLab refuses root unless it is told.
LAB_ARGS ?=
ROOT_ARG := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: lab environment tests-environment test test-slow test-browser soak bench notebooks site constraints lowest \
	pinned newest resolved clean

lab: environment
	"$(BIN)/python" -m jupyterlab $(ROOT_ARG) $(LAB_ARGS) notebooks/01_load_audio_captions.ipynb

# The fast tests, a process a core (a file's tests stay together), then every notebook against its stored outputs, one
# after another in a single process.
test: tests-environment
	"$(BIN)/python" -m pytest tests --numprocesses=auto --maxprocesses=4 --dist=loadfile
	"$(BIN)/python" -m pytest notebooks --nbval

# The others: whole trainings, the full profile against a stand-in for the Hub, and what waits for time-outs.
test-slow: tests-environment
	"$(BIN)/python" -m pytest tests -m slow

# Every notebook opened, run and used in JupyterLab in headless Chromium, which has to be on the machine: Debian's package
# `chromium`, or Google Chrome. Pictures of what was seen go to runs/browser. Skipped, with the reason, without Chromium.
test-browser: tests-environment
	"$(BIN)/python" -m pytest tests/browser -m browser -rs $(BROWSER_ARGS)

# Programs killed at random moments and several at once, thirty rounds each; healthy runs of twenty seeds; hundreds of
# random texts and clips. `make test` and `make test-slow` run a few rounds of each.
soak: tests-environment
	"$(BIN)/python" -m pytest tests -m soak

# Some thirty-five minutes on two quiet cores; prints a table and stores its figures in tests/benchmarks/results.
bench: environment
	"$(BIN)/python" -m tests.benchmarks

# Runs every notebook top to bottom and stores its outputs: do this before a commit that changes one. The numbers in
# prose follow the outputs.
# The data set first, so that its progress bar is no part of any stored output.
notebooks: environment
	"$(BIN)/python" -c "from helpers.tiny.dataset import ensure_dataset; ensure_dataset()"
	"$(BIN)/python" -m nbconvert --to notebook --execute --inplace \
		--ExecutePreprocessor.record_timing=False --ExecutePreprocessor.store_widget_state=False \
		--CoalesceStreamsPreprocessor.enabled=True \
		notebooks/*.ipynb
	"$(BIN)/python" -m tools.numbers

# The stored notebooks as static pages, in site/.
site: environment
	"$(BIN)/python" -m tools.site

environment:
	@command -v "$(PYTHON)" > /dev/null || { echo "There is no $(PYTHON) here: install Python 3.11 to 3.14."; exit 1; }
	@"$(PYTHON)" helpers/setup/install.py --venv "$(VENV)" --torch "$(TORCH)" $(INSTALL)

tests-environment:
	@$(MAKE) --no-print-directory environment INSTALL="$(INSTALL) --tests"

# One set of versions for every system and Python of the course; `make constraints UPGRADE=--upgrade` takes newer ones.
constraints:
	$(UV) pip compile requirements.txt tests/requirements.txt --universal --python-version 3.11 \
		--no-annotate --custom-compile-command "make constraints" --output-file constraints.txt $(UPGRADE)

# The ends of the ranges and the pins, each in an environment of its own: the fast tests and notebooks 01 to 05.
lowest:
	tools/versions.sh lowest-direct
pinned:
	tools/versions.sh pinned
newest:
	tools/versions.sh highest

# Whether the pins have wheels, and fit, on each system and Python of the README's table.
resolved:
	UV="$(UV)" tools/resolved.sh

clean:
	rm -rf "$(VENV)" runs site
