# Stillhere's one way in. `make` alone lists what there is.
#
# Steps that install leave a stamp in what they made, so a second call does only what has changed since, and whoever
# removes .venv or node_modules gets them anew.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEV := $(VENV)/.dev-installed
SERVER := $(VENV)/.server-installed
MUTANTS := $(VENV)/.mutants-installed
WEB := web/node_modules/.installed
SDK := clients/typescript
SDK_DEV := $(SDK)/node_modules/.installed
SDK_BUILT := $(SDK)/dist/index.js
PAGES := src/stillhere/pages/index.html

# What may be passed: make demo PORT=7500, make test PYTEST_ARGS="-k grace" GATE=
PORT ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
# Half of the time is waiting; tests/turns.py says who runs beside whom. 0 runs them in this process (as --pdb needs).
WORKERS ?= 2
# core/ and wire/ are small and pure: every branch of them is tested. `GATE=` runs without this gate, for a subset.
GATE ?= --cov=stillhere.core --cov=stillhere.wire --cov-branch --cov-fail-under=100 --cov-report=term-missing:skip-covered

WEB_SOURCES := $(shell find web $(SDK)/src -name node_modules -prune -o -name dist -prune -o -type f -print 2>/dev/null)
SDK_SOURCES := $(shell find $(SDK) -name node_modules -prune -o -name dist -prune -o -type f -print 2>/dev/null)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
export PYTHON
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(SERVER) $(PAGES) ## install, build the pages and start the demo (PORT=… for another port)
	@$(BIN)/stillhere dev $(if $(PORT),--port $(PORT))

.PHONY: screenshots
screenshots: $(DEV) $(PAGES) ## take the pictures of the admin pages in docs/images (needs Chromium; ONLY=…, OUT=…)
	@$(BIN)/python -m scripts.screenshots $(if $(ONLY),--only $(ONLY)) $(if $(OUT),--out $(OUT))

.PHONY: test
test: $(DEV) $(PAGES) $(SDK_BUILT) test-tools ## every test: TypeScript, Python, browser (PYTEST_ARGS=…, WORKERS=…)
	@cd web && npm test
	@cd $(SDK) && npm test
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(GATE) $(PYTEST_ARGS)

.PHONY: check
check: $(DEV) $(WEB) $(SDK_BUILT) ## lint, format, types (Python and TypeScript), layer rules
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy --strict
	@cd web && npm run check
	@cd $(SDK) && npm run --silent check && npm run --silent size && npm run --silent lint:package
	@$(BIN)/python -m pytest -q tests/architecture

.PHONY: fmt
fmt: $(DEV) ## format the Python code and mend what ruff can mend
	@$(BIN)/ruff check --fix-only
	@$(BIN)/ruff format

.PHONY: pages
pages: $(PAGES) ## build the web pages into the package

.PHONY: faults
faults: $(DEV) test-tools ## the failure matrix: three nodes, real Redis, real faults (minutes; PYTEST_ARGS=…)
	@$(BIN)/python -m pytest tests/acceptance/faults $(PYTEST_ARGS)

.PHONY: bench
bench: $(DEV) ## measure memory and CPU per connection beside ws (QUICK=1, PEERS=…, PHASES=…, BENCH_ARGS=…)
	@scripts/need.sh node
	@$(BIN)/python -m bench $(if $(QUICK),--quick) $(if $(PEERS),--peers "$(PEERS)") $(if $(PHASES),--phases "$(PHASES)") $(BENCH_ARGS)

.PHONY: bench-guard
bench-guard: $(DEV) ## fail if CPU beside ws has grown by more than 15 % (a quarter of an hour; BENCH_ARGS=--update)
	@scripts/need.sh node
	@$(BIN)/python -m bench.guard $(BENCH_ARGS)

.PHONY: soak
soak: $(DEV) ## half an hour of coming and going, then nothing may be left (SECONDS=…, BENCH_ARGS=…)
	@$(BIN)/python -m bench.soak $(if $(SECONDS),--seconds $(SECONDS)) $(BENCH_ARGS)

.PHONY: bench-cluster
bench-cluster: $(DEV) ## measure the Redis store beside a bare INCR loop (BENCH_ARGS=--quick)
	@scripts/need.sh bench-cluster
	@$(BIN)/python -m bench.cluster $(BENCH_ARGS)

.PHONY: cluster-demo
cluster-demo: $(SERVER) $(PAGES) ## three nodes on one Redis behind HAProxy, to kill one and watch (PORT=…)
	@scripts/need.sh cluster-demo
	@$(BIN)/python scripts/cluster_demo.py $(if $(PORT),--port $(PORT))

.PHONY: model
model: ## check the Spin model of nodes, leases and recoveries, and that its mutants are refuted (MODEL=both: longer)
	@scripts/need.sh model
	@docs/model/run.sh $(MODEL)

.PHONY: mutants
mutants: $(MUTANTS) ## mutate core/ and wire/ and list the survivors (long; not a gate)
	@scripts/mutants.sh $(MODULES)

.PHONY: simulate
simulate: $(DEV) ## a cluster under a virtual clock and a hail of faults (SEEDS=0-299, SIMULATE_ARGS=…)
	@PYTHONHASHSEED=0 $(BIN)/python -m stillhere.simulation $(or $(SEEDS),0-299) $(SIMULATE_ARGS)

.PHONY: docs
docs: $(DEV) ## build the documentation as a site into build/site, and check its links
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

.PHONY: lock
lock: ## pin what the ranges allow (UPGRADE=1 takes the newest)
	@scripts/need.sh python
	@scripts/need.sh node
	@scripts/lock.sh $(if $(UPGRADE),--upgrade)

.PHONY: clean
clean: ## remove everything that these targets made
	rm -rf $(VENV) .stamps build dist htmlcov .coverage .coverage.* src/stillhere/pages web/node_modules
	rm -rf $(SDK)/node_modules $(SDK)/dist examples/react/node_modules examples/react/dist
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: test-tools
test-tools:
	@scripts/need.sh test-tools

# --- what the targets stand on ---

$(BIN)/python:
	@scripts/need.sh python
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# The project goes in last, editable, with the pinned build tool that is already there: nothing unpinned is fetched.
define install
	@echo "installing the pinned packages of $(1)"
	@$(BIN)/python -m pip install --quiet --require-hashes $(foreach file,$(1),-r $(file))
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
endef

$(SERVER): requirements/server.txt requirements/build.txt pyproject.toml hatch_build.py | $(BIN)/python
	$(call install,requirements/server.txt requirements/build.txt)

$(DEV): requirements/dev.txt pyproject.toml hatch_build.py | $(BIN)/python
	$(call install,requirements/dev.txt)

$(MUTANTS): requirements/mutants.txt pyproject.toml hatch_build.py | $(BIN)/python
	$(call install,requirements/mutants.txt)

$(WEB): web/package.json web/package-lock.json
	@scripts/need.sh node
	@echo "installing the pinned packages of web/package-lock.json"
	@cd web && npm ci --no-audit --no-fund
	@touch $@

$(SDK_DEV): $(SDK)/package.json $(SDK)/package-lock.json
	@scripts/need.sh node
	@echo "installing the pinned packages of $(SDK)/package-lock.json"
	@cd $(SDK) && npm ci --no-audit --no-fund
	@touch $@

$(SDK_BUILT): $(SDK_DEV) $(SDK_SOURCES)
	@cd $(SDK) && npm run build
	@touch $@

.PHONY: sdk
sdk: $(SDK_BUILT) ## build the TypeScript SDK

$(PAGES): $(WEB) $(WEB_SOURCES)
	@cd web && npm run build
	@touch $@
