# `make` alone lists the targets. Everything that is needed installs itself: uv and the Python
# packages here, system packages and the cluster's binaries in tests/e2e/localnode.

SHELL := /bin/bash
.DEFAULT_GOAL := help

UV_VERSION := 0.13.9
CACHE := $(or $(RAGTENANCY_CACHE),$(HOME)/.cache/ragtenancy)
UV := $(shell command -v uv 2>/dev/null)
ifeq ($(shell $(or $(UV),false) --version 2>/dev/null | cut -d' ' -f2),$(UV_VERSION))
UV_TOOL :=
else
UV := $(CACHE)/uv-$(UV_VERSION)/bin/uv
UV_TOOL := $(UV)
endif
PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
VENV := .venv/.synced

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV) ## From nothing to a streamed, cited answer on a real cluster
	@$(PYTHON) -m tests.e2e.demo

.PHONY: up
up: $(VENV) ## Start a cluster: kind where Docker answers, else the local node
	@$(PYTHON) -m tests.e2e.cluster up

.PHONY: down
down: $(VENV) ## Remove the cluster and all it left, except the caches
	@$(PYTHON) -m tests.e2e.cluster down

.PHONY: images
images: $(VENV) ## Build the operator's and the runtime's images into the cluster
	@$(PYTHON) -m tests.e2e.cluster images

.PHONY: test
test: $(VENV) ## lint, unit, integration, cluster, e2e; prints the time of each
	@$(PYTHON) -m tests.phases lint unit integration up images e2e

.PHONY: test-unit
test-unit: $(VENV) ## Tests of what decides: no I/O
	@$(PYTEST) tests/unit

.PHONY: test-integration
test-integration: $(VENV) ## Tests against a real kube-apiserver, Redis and Weaviate
	@$(PYTHON) -m tests.phases integration

.PHONY: test-e2e
test-e2e: $(VENV) ## Tests on the cluster
	@$(PYTHON) -m tests.phases up images e2e

.PHONY: test-long
test-long: $(VENV) ## What takes too long for `make test`
	@$(PYTHON) -m tests.phases up images long

.PHONY: lint
lint: $(VENV) ## ruff, mypy, import-linter, freshness of generated files, helm lint
	@$(PYTHON) -m tests.phases lint

.PHONY: bench
bench: $(VENV) ## Run a benchmark: make bench NAME=tenant_ready
	@test -n "$(NAME)" || { echo "NAME is one of: $(patsubst benchmarks/%.py,%,$(filter-out benchmarks/_%,$(wildcard benchmarks/*.py)))"; exit 2; }
	@$(PYTHON) -m benchmarks.$(NAME)

.PHONY: crds
crds: $(VENV) ## Generate the CRDs and docs/resources.md from the models
	@$(PYTHON) -m ragtenancy_api.crd
	@$(PYTHON) -m docs.resources

.PHONY: format
format: $(VENV) ## Format the code
	@.venv/bin/ruff check --fix --quiet .
	@.venv/bin/ruff format .

.PHONY: clean
clean: ## Remove the virtual environment and the tools' caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist

$(VENV): pyproject.toml uv.lock | $(UV_TOOL)
	@$(UV) sync --quiet --all-extras --frozen
	@touch $@

$(CACHE)/uv-$(UV_VERSION)/bin/uv:
	@echo "installing uv $(UV_VERSION)"
	@python3 -c 'import ensurepip' 2>/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv; }
	@python3 -m venv $(CACHE)/uv-$(UV_VERSION)
	@$(CACHE)/uv-$(UV_VERSION)/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
