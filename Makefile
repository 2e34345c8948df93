# `make` lists the targets. Everything lives in two ignored folders: .venv (packages) and .state (servers, datasets, logs).
#
# GPU machines: `make setup` takes the torch 2.13.0 build that pip prefers (on Linux PyPI's CUDA build). For another CUDA,
# or CPU only (whl/cpu), choose the build first; setup keeps any torch 2.13.0 it finds:
#   python3.11 -m venv .venv
#   .venv/bin/pip install torch==2.13.0 torchvision==0.28.0 --index-url https://download.pytorch.org/whl/cu126
#   make setup EXTRAS=gpu

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The first of these that runs and has a supported version; looked for only when .venv is made.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do $$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; done)
# Extras of pyproject.toml beside what a run needs: gpu, ray, docker, k8s, server. Checks and tests bring dev by themselves.
EXTRAS ?=
PRESET ?= shapes
PY := .venv/bin/python
comma := ,
# One stamp for each set of packages: run (what a run needs), or extras such as dev, gpu-ray.
STAMP := .venv/.setup-$(or $(subst $(comma),-,$(EXTRAS)),run)
# What is to come, and for how long; measured with the CPU build of torch on two cores.
COMING_run := what a run needs, 2.2 GB, two to five minutes
COMING_dev := what a run, the checks and the tests need, 3.2 GB, four to eight minutes

.PHONY: help setup setup-dev demo claims up down status logs deploy doctor check docs format test test-slow parity chaos clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: $(STAMP)  ## .venv with the pinned packages that a run needs, and EXTRAS (a no-op while pyproject.toml and constraints.txt stay)

setup-dev: .venv/.setup-dev  ## the same, and what checks and tests need

.venv/.setup-%: pyproject.toml constraints.txt
	@test -x $(PY) || test -n "$(PYTHON)" || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed; name one with: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv .venv || \
		{ rm -rf .venv; echo "could not create .venv; Debian and Ubuntu need the package python3-venv" >&2; exit 1; }
	@echo "Setting up .venv: $(or $(COMING_$*),the extras $(subst -, and ,$*)). A CUDA build of torch takes several GB more."
	@$(PY) -m pip install -qq --disable-pip-version-check $(if $(findstring dev,$*),,--no-compile) \
		-e '.$(if $(filter-out run,$*),[$(subst -,$(comma),$*)])' -c constraints.txt
	@# A run imports neither the packages' tests nor most architectures of transformers. All else is compiled here: where
	@# PYTHONDONTWRITEBYTECODE is set, as in many containers, every process would do it again. Templates are no Python.
	@$(if $(findstring dev,$*),true,$(PY) -m compileall -qq -j 2 -x '/tests/|/transformers/models/(?!auto|clip|bert)' \
		.venv/lib || true)
	@$(PY) -c 'from pipeline_lib.core.torchvision_ops import mend_environment; mend_environment()'
	@touch $(sort .venv/.setup-run $(foreach extra,$(subst -, ,$*),.venv/.setup-$(extra)) $@)
	@echo ".venv is ready: $$(du -sh .venv | cut -f1)"

demo: setup  ## run the whole pipeline on the built-in world and print the result
	@$(PY) -m deploy.stack up
	@$(MAKE) --no-print-directory deploy
	@$(PY) -m deploy.demo

claims: setup  ## measure the papers' claims and write CLAIMS.md (CLAIM="dpo flips" PRESET=shapes MAX_PARALLEL=2)
	@$(PY) -m deploy.stack up
	@$(MAKE) --no-print-directory deploy
	@$(PY) -m deploy.claim_runs --preset $(PRESET) $(CLAIM:%=--claim %) $(MAX_PARALLEL:%=--max-parallel %)

up: setup  ## start Prefect server, MLflow server and worker (PIPELINE_PREFECT_PORT, PIPELINE_MLFLOW_PORT)
	@$(PY) -m deploy.stack up

down: setup  ## stop them
	@$(PY) -m deploy.stack down

status: setup  ## say what runs, where, and since when
	@$(PY) -m deploy.stack status || true

logs: setup  ## print the end of every log
	@$(PY) -m deploy.stack logs

deploy: setup  ## register every deployment of deploy/prefect.yaml; schedules stay as people set them
	@$(PY) -m deploy.stack exec python -m deploy

doctor: setup  ## say what is wrong with servers, workers, GPU, disks, downloads, stuck runs, and what to do (PRESET=sdxl)
	@$(PY) -m deploy.doctor --preset $(PRESET)

check: setup-dev docs  ## format, lint, types, layering, docs, container files, licences and known vulnerabilities of packages
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy pipeline_lib tasks flows deploy
	@.venv/bin/lint-imports | tail -8
	$(PY) -m pytest -q tests/test_layering.py tests/deploy/test_docker.py
	@$(PY) -m deploy.packages.licences
	@$(PY) -m deploy.packages.audit

docs: setup-dev  ## build docs/ as a site in .state/site; a link to nothing is an error
	@# Not --quiet: it would hide the warnings that strict mode counts.
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build

format: setup-dev  ## rewrite the sources in the project's format
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

test: setup-dev check  ## checks, then the tests on up to four cores (no network)
	$(PY) -m pytest -q -n logical --maxprocesses 4

test-slow: setup-dev  ## the tests that take minutes
	$(PY) -m pytest -q -m slow

parity: setup-dev  ## the reward models beside the official packages, at full size (minutes; builds an environment the first time)
	@$(PY) -m tests.parity

chaos: setup-dev  ## kill processes under a running align/shapes, 30 in all, and compare with an undisturbed run (a quarter of an hour or more)
	@$(PY) -m tests.chaos

clean: setup  ## stop the stack and remove .state
	@$(PY) -m deploy.stack down
	rm -rf .state
