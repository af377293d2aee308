# The front door. `make` tells what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
VENV := .venv
# An NVIDIA driver means the CUDA build of TensorFlow; `make setup HARDWARE=cpu` overrules, and what is set up stays.
INSTALLED := $(patsubst $(VENV)/.%,%,$(firstword $(wildcard $(VENV)/.cpu $(VENV)/.gpu)))
DETECTED := $(or $(INSTALLED),$(shell command -v nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu))
HARDWARE ?= $(DETECTED)
READY := $(VENV)/.$(HARDWARE)
# uv of the machine if there is one, else one of our own; not in the environment it syncs, where it would remove itself.
UV := $(shell command -v uv 2>/dev/null || echo $(VENV)/.uv/bin/uv)
RUN := source $(VENV)/bin/activate &&
# DVC and others keep settings and caches in the user's home, and ask for a name. A user without them gets them here.
export USER := $(or $(USER),$(shell id -un 2>/dev/null || id -u))
export HOME := $(shell [ -w "$$HOME" ] && echo "$$HOME" || { mkdir -p "$(CURDIR)/.home" && echo "$(CURDIR)/.home"; })
# Compiled modules are kept, whatever the environment says: the steps and the tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE
COMPILE := $(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header pyproject.toml

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: demo
demo: $(READY) ## From a drawn archive to a promoted model: dvc repro, then the results
	@# A download without git: DVC works there too, once it is told.
	@$(RUN) git rev-parse --git-dir >/dev/null 2>&1 || dvc config --quiet --local core.no_scm true
	@$(RUN) dvc repro; code=$$?; \
	[ $$code = 0 ] || echo "dvc repro did not end well; this was the last promotion:"; \
	mura summary; exit $$code

.PHONY: setup
setup: $(READY) ## The virtual environment with everything: source .venv/bin/activate

.PHONY: test
test: $(READY) ## The tests that take minutes; they need nothing but git, make and Python
	@$(RUN) pytest -m "not long"

.PHONY: test-long
test-long: $(READY) ## More tests, twenty minutes: trainings, kills, whole pipelines; those of servers need PostgreSQL and openssl
	@$(RUN) pytest -m "long and not longest"

.PHONY: test-longest
test-longest: $(READY) ## Those that take long by themselves, an hour: histories, drills, many kills; they need PostgreSQL and openssl
	@$(RUN) pytest -m longest

.PHONY: fuzz
fuzz: $(READY) ## The fuzzers of the tests, for minutes each: FUZZ_SECONDS=300
	@$(RUN) FUZZ_SECONDS=$${FUZZ_SECONDS:-300} pytest --timeout=0 tests/fuzz

.PHONY: check
check: $(READY) ## Lint, format and types
	@$(RUN) ruff check . && ruff format --check . && mypy

.PHONY: format
format: $(READY) ## Mend what lint and format can mend
	@$(RUN) ruff check --fix . ; ruff format .

.PHONY: mlflow
mlflow: $(READY) ## Runs and models of sqlite:///mlflow.db in a browser, port 5000
	@echo "Open http://127.0.0.1:5000/#/?workflowType=machine_learning"
	@$(RUN) MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
		mlflow server --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port 5000

.PHONY: server
server: $(READY) ## MLflow with logins on PostgreSQL and S3, on this machine: SERVER=/srv/mura for another directory
	@$(RUN) exec python -m infra.server $(SERVER)

.PHONY: lock
lock: $(VENV)/bin/python ## Compile the lock files anew from pyproject.toml
	$(COMPILE) --extra cpu --extra dvc --extra pipelines --extra tune --group dev -o requirements/dev.txt
	# What is shipped is what was tested: the others take the versions of the first.
	$(COMPILE) -c requirements/dev.txt --extra cpu -o requirements/cpu.txt
	$(COMPILE) -c requirements/dev.txt --extra gpu -o requirements/gpu.txt
	$(COMPILE) -c requirements/dev.txt --extra dvc --extra pipelines --extra tune --group dev -o requirements/tools.txt
	$(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header -c requirements/dev.txt --group serve -o requirements/serve.txt
	$(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --group build -o requirements/build.txt

.PHONY: image
image: $(VENV)/.$(DETECTED) ## The steps in an image, with its bill of materials: for CUDA HARDWARE=gpu, the server =serve
	@infra/image.sh $(if $(filter file,$(origin HARDWARE)),cpu,$(HARDWARE))

.PHONY: base-image
base-image: ## A base for it of Debian's packages, where no registry is reached: BASE_IMAGE=localhost/mura-base:bookworm
	@infra/base.sh

.PHONY: test-image
test-image: $(READY) ## Tests with containers: the image, and the pipeline run in it; needs podman
	@command -v podman >/dev/null || { \
		echo "make test-image needs podman and does not find it. On Debian: apt-get install podman runc"; exit 1; }
	@$(RUN) pytest -m "$(or $(MARKED),long or not long)" tests/container

.PHONY: test-slurm
test-slurm: $(READY) ## Tests with a Slurm of their own, on one node; needs slurm-wlm and munge
	@PATH="$$PATH:/usr/sbin" command -v slurmctld munged >/dev/null || { \
		echo "make test-slurm needs Slurm and does not find it. On Debian: apt-get install slurm-wlm munge"; exit 1; }
	@$(RUN) pytest --numprocesses=0 tests/slurm

.PHONY: test-browser
test-browser: $(READY) ## Tests of the server's page in a browser; needs chromium
	@command -v chromium >/dev/null || { \
		echo "make test-browser needs chromium and does not find it. On Debian: apt-get install chromium"; exit 1; }
	@$(RUN) pytest --numprocesses=0 tests/browser

.PHONY: clean
clean: ## Remove the artifacts; archives, mlflow.db and DVC's cache stay
	rm -rf artifacts/*/ artifacts/*.made.json artifacts/.*.partial artifacts/*/.*.partial artifacts/.*.lock dvc_plots

$(VENV)/bin/python:
	@rm -rf $(VENV)  # a set-up that failed half-way is no set-up
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info[:2] <= (3, 13) else "Python 3.11 to 3.13 is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Is the venv module there? On Debian: apt-get install python3-venv"; exit 1; }
	@command -v $(UV) >/dev/null || { $(PYTHON) -m venv $(VENV)/.uv && $(VENV)/.uv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/build.txt; } || { rm -rf $(VENV); exit 1; }

# What is installed is what the lock says, to the hash; one stamp a lock.
$(VENV)/.cpu: requirements/dev.txt pyproject.toml | $(VENV)/bin/python
	VIRTUAL_ENV=$(VENV) $(UV) pip sync --quiet --compile-bytecode --require-hashes requirements/dev.txt
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps --build-constraints requirements/build.txt --editable .
	@rm -f $(VENV)/.gpu && touch $@

$(VENV)/.gpu: requirements/gpu.txt requirements/tools.txt pyproject.toml | $(VENV)/bin/python
	VIRTUAL_ENV=$(VENV) $(UV) pip sync --quiet --compile-bytecode --require-hashes requirements/gpu.txt requirements/tools.txt
	VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps --build-constraints requirements/build.txt --editable .
	@rm -f $(VENV)/.cpu && touch $@
