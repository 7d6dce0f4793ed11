VENV ?= .venv
PYTHON ?= python3
READY := $(VENV)/.ready
BIN := $(VENV)/bin

# Beside other work, threads that wait in a loop slow each other down; see docs/performance.md.
export GOMP_SPINCOUNT ?= 1000

.PHONY: demo test test-all check bench docs docs-check configuration train-nano compress-nano

demo: $(READY)  ## Run the four modes on data/sample with the nano model and validate both submissions.
	@for mode in valid_asr valid_aac submission_asr submission_aac; do $(BIN)/python evaluate_salmonn.py --mode $$mode --output-dir demo_results || exit 1; done
	@for csv in demo_results/submission_results/*.csv; do echo $$csv; $(BIN)/python submission_validator.py $$csv || exit 1; done
	@echo "Everything is in demo_results/:" && ls -d demo_results/*/* && echo "To go on by hand: . $(BIN)/activate"
	@echo "To look and listen, open in a browser:" && ls -t demo_results/valid_results/*/report.html | head -n 2

test: $(VENV)/.ready-dev  ## Run the tests of the evaluator and the trainer, but for the slow ones.
	$(BIN)/python -m pytest -m "not slow"

test-all: $(VENV)/.ready-dev  ## Run every test: also whole runs, several processes, kills, a browser.
	$(BIN)/python -m pytest

check: $(VENV)/.ready-dev  ## Check format, lint and types.
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/mypy evaluate_salmonn.py submission_validator.py

bench: $(READY)  ## Measure loading, features, training, answering and large annotations (Linux).
	$(BIN)/python benchmarks/load_memory.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bench_training.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bench_decoding.py --quick
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bench_decoding.py --quick --whole
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/front_end.py --quick
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/start_up.py --runs 1
	$(BIN)/python benchmarks/annotation_memory.py --rows 200000
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/intervals.py

docs: $(VENV)/.ready-dev  ## Build a site of docs/ into build/site/; a link that leads nowhere is an error.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --config-file docs/site/mkdocs.yml
	@echo "The site is in build/site/index.html"

docs-check: $(READY)  ## Run the cheap commands whose output the pages show, and say which numbers are stale.
	$(BIN)/python docs/check_numbers.py

configuration: $(READY)  ## Write docs/configuration.md from the schemas.
	$(BIN)/python docs/make_configuration.py

train-nano: $(VENV)/.ready-dev  ## Make the nano model anew (needs espeak-ng).
	cd audiolm-trainer && $(abspath $(BIN))/python -m nano.make_nano

compress-nano: $(READY)  ## Make the nano model smaller in ten ways, and measure each (needs espeak-ng).
	$(BIN)/python benchmarks/compress_nano.py

$(READY): requirements.txt pyproject.toml audiolm-trainer/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -r requirements.txt
	touch $@

$(VENV)/.ready-dev: $(READY)
	$(BIN)/python -m pip install -e ".[all,dev]"
	touch $@
