# make lab   opens the course; make test   passes its fast tests and runs its notebooks; make test-slow   the slow tests;
# make bench   measures the course against the guide. Each makes the virtual environment first.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: lab test test-slow bench notebooks clean

lab: $(VENV)/.installed
	$(BIN)/jupyter lab notebooks/01_load_audio_captions.ipynb

# The fast tests (under three minutes on two cores), and every notebook against its stored outputs.
test: $(VENV)/.tests-installed
	$(BIN)/python -m pytest --nbval

# The others: whole trainings, the full profile against a stand-in for the Hub, and what waits for time-outs.
test-slow: $(VENV)/.tests-installed
	$(BIN)/python -m pytest tests -m slow

# About 25 minutes on two quiet cores; prints a table and stores its figures in tests/benchmarks/results.
bench: $(VENV)/.installed
	$(BIN)/python -m tests.benchmarks

# Runs every notebook top to bottom and stores its outputs: do this before a commit that changes one.
# The data set first, so that its progress bar is no part of any stored output.
notebooks: $(VENV)/.installed
	$(BIN)/python -c "from helpers.tiny.dataset import ensure_dataset; ensure_dataset()"
	cd notebooks && ../$(BIN)/jupyter nbconvert --to notebook --execute --inplace \
		--ExecutePreprocessor.record_timing=False *.ipynb

# The markers are made last, so an interrupted installation is taken up again.
$(VENV)/.installed: requirements.txt constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt -c constraints.txt
	touch $@

$(VENV)/.tests-installed: $(VENV)/.installed tests/requirements.txt
	$(BIN)/python -m pip install --quiet -r tests/requirements.txt -c constraints.txt
	touch $@

clean:
	rm -rf $(VENV) runs
