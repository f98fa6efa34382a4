# The two commands to know: `make serve` and `make test`. `make help` lists the others.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --require-hashes

.DEFAULT_GOAL := help
.PHONY: help serve test lint types check mlflow seed prepare notebooks lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: $(VENV)/.serve ## Serve the API on http://127.0.0.1:8000 (settings: docs/configuration.md)
	@$(BIN)/python -m student_success serve

# In alphabetical order: pytest-xdist would begin with the files of many tests, and one process would
# run the long tests of e2e alone at the end.
TWO_AT_ONCE := -n 2 --dist loadfile --no-loadscope-reorder
test: $(VENV)/.dev ## Run the whole test suite
	@status=0; \
	$(BIN)/python -m pytest $(TWO_AT_ONCE) \
	  $(foreach apart,browser speed stack faults scale,--ignore=tests/$(apart)) || status=1; \
	$(BIN)/python -m pytest tests/browser || status=1; \
	$(BIN)/python -m pytest tests/speed || status=1; \
	exit $$status

lint: $(VENV)/.dev ## Check style, formatting and the layers
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: $(VENV)/.dev ## Check types
	@$(BIN)/mypy

.PHONY: audit
audit: $(VENV)/.dev ## Look for known weaknesses in what is locked (says so where it cannot ask)
	@$(BIN)/python .ci/audit

check: lint types test ## Everything that must pass before a commit lands

mlflow: $(VENV)/.full ## Open MLflow's own interface on http://127.0.0.1:5000 (installs MLflow first)
	@$(BIN)/python -m student_success mlflow

prepare: $(VENV)/.serve ## Get the real data: data/final.csv, from the UCI archive (FROM=DIR for local copies)
	@$(BIN)/python -m training prepare $(if $(FROM),--from $(FROM))

seed: $(VENV)/.serve ## Train the seed model again (needs the real data)
	@$(BIN)/python -m training seed

# The same data, code and packages give the same files, because no times are recorded.
RENDER := import sys, nbformat as n; from nbclient import NotebookClient as C; \
  [n.write(C(n.read(p, 4), record_timing=False, kernel_name="python3", \
  resources={"metadata": {"path": "notebooks"}}).execute(), p) for p in sys.argv[1:]]
notebooks: $(VENV)/.dev ## Render the notebooks again, on the real data (make prepare)
	@test -f data/final.csv || { echo "The notebooks show the real data, and were not changed: run make prepare first."; exit 2; }
	@$(BIN)/jupytext --quiet --sync notebooks/*.py
	@$(BIN)/python -c '$(RENDER)' notebooks/*.ipynb

# The inputs are the dependencies of pyproject.toml; dev.txt holds the others to its versions. boto3
# does not resolve together with it, so the image of the MLflow server is locked by itself.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header --no-annotate $(if $(UPGRADE),--upgrade)
BESIDE := $(LOCK) -c requirements/dev.txt
lock: $(VENV)/.dev ## Lock the requirements anew, with hashes and without addresses (UPGRADE=1: newest)
	@$(LOCK) pyproject.toml --extra dev -o requirements/dev.txt
	@$(BESIDE) pyproject.toml --extra train --extra ui -o requirements/serve.txt
	@$(BESIDE) pyproject.toml --extra train --extra ui --extra scale --extra otel --extra mlflow -o requirements/full.txt
	@$(BESIDE) pyproject.toml --extra train --extra otel -o requirements/image.txt
	@$(BESIDE) --group ui-image -o requirements/ui.txt
	@$(LOCK) --group mlflow-image -o requirements/mlflow.txt

clean: ## Remove the virtual environment and caches; state and data stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; set PYTHON=python3.12, for example."; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: requirements/serve.txt | $(BIN)/python
	@echo "Installing what serving needs, once: 143 packages, about 650 MB, one to three minutes."
	@$(PIP) -r requirements/serve.txt
	@touch $@

$(VENV)/.full: requirements/full.txt | $(VENV)/.serve
	@echo "Installing MLflow's server, Dask and Parquet, once: about 400 MB more, a minute or two."
	@$(PIP) -r requirements/full.txt
	@touch $@

$(VENV)/.dev: requirements/dev.txt | $(BIN)/python
	@echo "Installing what the tests need, once: about 1.6 GB, two to five minutes."
	@$(PIP) -r requirements/dev.txt
	@touch $@ $(VENV)/.serve $(VENV)/.full

.PHONY: bench
bench: $(VENV)/.dev ## Measure ourselves beside the peers (QUICK=1: two minutes; else writes docs/benchmarks.md)
	@command -v wrk >/dev/null || apt-get install -y -qq wrk >/dev/null || \
	  { echo "wrk is needed: install it with your package manager."; exit 2; }
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick,--write)

.PHONY: bench-bulk
bench-bulk: $(VENV)/.dev ## Measure bulk scoring, up to ten million rows (3 GB of disk, ten minutes)
	@$(BIN)/python -m benchmarks.bulk

# The container and the stack around it.
.PHONY: image up down manifests test-stack test-faults test-scale test-monitoring
# SCALE=1: PostgreSQL, an S3-compatible store and API_REPLICAS replicas behind a proxy.
COMPOSE := docker compose $(if $(SCALE),-f docker-compose.yml -f docker-compose.scale.yml --profile scale)

image: $(VENV)/.serve ## Build the image of the API alone, from a Bento (API_IMAGE)
	@docker/build-image $(API_IMAGE)

up: $(VENV)/.serve ## Start the whole stack in containers (SCALE=1: several API replicas)
	@$(BIN)/python -m student_success secrets
	@$(COMPOSE) up --detach --build --wait --wait-timeout 300
	@$(COMPOSE) ps --format "table {{.Service}}\t{{.Status}}\t{{.Ports}}"

down: ## Stop the stack; its volumes stay
	@cd / && docker compose --project-name $${COMPOSE_PROJECT_NAME:-student-success} down

test-stack: $(VENV)/.dev ## Build the images and test the stack (needs a container engine)
	@TEST_STACK=1 $(BIN)/python -m pytest tests/stack

test-faults: $(VENV)/.dev ## Break things on purpose, and count what was lost (FULL=1: the long form)
	@FULL=$(FULL) $(BIN)/python -m pytest $(TWO_AT_ONCE) tests/faults

test-scale: $(VENV)/.dev ## Test PostgreSQL, several processes, a Dask cluster, bulk scoring
	@$(BIN)/python -m pytest $(TWO_AT_ONCE) tests/scale

manifests: $(VENV)/.dev ## Write the alerts of the Kubernetes manifests from monitoring/prometheus
	@$(BIN)/python .ci/prometheus-rule

test-monitoring: $(VENV)/.dev ## Test alerts and dashboards against a real Prometheus
	@$(BIN)/python -m pytest tests/monitoring
