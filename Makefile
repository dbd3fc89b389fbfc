# headrace. Needs Python 3.11 or newer and make; everything else is set up here.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
TESTS ?= tests
PYTEST_ARGS ?=
CHAOS_ARGS ?=
ALERTS_ARGS ?=
ATTACK_ARGS ?=
LEDGER_ARGS ?=
AGENTS_ARGS ?=
SIZING_ARGS ?=
OVERLOAD_ARGS ?=
GROWTH_ARGS ?=
CAPACITY_ARGS ?=
LOAD := .tools/load
CLIENTS := .tools/clients
FLOORS := .tools/floors
AUDIT := .tools/audit
AUDIT_ARGS ?=
SBOM := deploy/docker/sbom.cdx.json
LOAD_URL ?= http://127.0.0.1:8123
IMAGE_BASE := .tools/python-stand-in.tar

# Where it is set, each process that a test starts compiles all of headrace anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run check lint types imports dead-code test test-together test-paired test-alone test-deploy test-images test-cold test-load chaos chaos-short rolling alerts ledger attack fuzz load bench compare compare-peers format lock docs manifests ci-tools clean python test-floors test-floors-short agents sizing soak overload growth capacity semantic audit sbom

##@ Use

run: $(VENV)/run.stamp  ## Serve the built-in chat graph, or those of ./langgraph.json, on 127.0.0.1:8123
	@exec $(BIN)/headrace dev

##@ Check

check: lint types imports dead-code  ## Lint, types, import layers, dead code

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.stamp
	$(BIN)/mypy

imports: $(VENV)/dev.stamp
	$(BIN)/lint-imports

dead-code: $(VENV)/dev.stamp
	$(BIN)/vulture

test:  ## The whole suite, on an embedded Postgres; TESTS=tests/db PYTEST_ARGS=-x narrow it
	$(MAKE) test-together
	$(MAKE) test-paired
	$(MAKE) test-alone

# The suite runs a load test too. Four at once on two cores: two of them wait for servers they started.
# By file, so that a module's server is started once; in order, so that the long ones begin first.
test-together: $(VENV)/dev.stamp $(LOAD)/load.stamp $(if $(shell command -v npm),$(CLIENTS)/clients.stamp)
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder -m "not paired and not alone and not deploy_tools" $(PYTEST_ARGS) $(TESTS) || [ $$? -eq 5 ]

test-paired: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "paired and not deploy_tools" $(PYTEST_ARGS) $(TESTS) || [ $$? -eq 5 ]

test-alone: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m "alone and not deploy_tools" $(PYTEST_ARGS) $(TESTS) || [ $$? -eq 5 ]

test-deploy: $(VENV)/dev.stamp  ## Chart and images; with KUBECONFIG the chart also in that cluster
	$(BIN)/python -m pytest -n 2 -m "not deploy_tools" $(PYTEST_ARGS) tests/deploy
	$(MAKE) test-images

test-images: $(VENV)/dev.stamp  ## Build the images and run them: as root, with what ci-tools installs
	$(BIN)/python -m pytest -s -m deploy_tools $(PYTEST_ARGS) tests/deploy

test-cold: $(VENV)/dev.stamp  ## A fresh clone and the wheel, installed anew from the registries
	TEST_COLD=1 $(BIN)/python -m pytest -s tests/acceptance/test_make_run.py tests/acceptance/test_wheel.py

test-load: $(VENV)/dev.stamp  ## Short forms of the measurements, some minutes
	TEST_LOAD=1 $(BIN)/python -m pytest $(PYTEST_ARGS) tests/loadtests

chaos: $(VENV)/dev.stamp  ## Faults at random under load, and a checker; CHAOS_ARGS="--seconds 300 --seed 7" (docs/chaos.md)
	@$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

chaos-short: $(VENV)/dev.stamp  ## Each fault once, and the proofs that the checker can fail; part of test
	$(BIN)/python -m pytest -s $(PYTEST_ARGS) tests/chaos

rolling: $(VENV)/dev.stamp  ## Restart two pods behind nginx under load; ROLLING_ARGS="--restarts 100" (docs/restarts.md)
	@$(BIN)/python -m tests.rolling $(ROLLING_ARGS)

alerts: $(VENV)/dev.stamp  ## Fault after fault, until each alert has fired and ended; ALERTS_ARGS="--short" (docs/slo.md)
	@$(BIN)/python -m tests.alerts $(ALERTS_ARGS)

ledger: $(VENV)/dev.stamp  ## Kill processes 1,000 times, and see what was done twice; LEDGER_ARGS="--kills 50" (docs/guarantees.md)
	@$(BIN)/python -m tests.ledger $(LEDGER_ARGS)

attack: $(VENV)/dev.stamp  ## Attack two processes, row by row; ATTACK_ARGS="--rows 2,7 --seconds 20" (docs/attack.md)
	@$(BIN)/python -m tests.attack $(ATTACK_ARGS)

# As with load: `make fuzz FUZZ_SECONDS=600`.
fuzz: $(VENV)/dev.stamp  ## Ask all that the OpenAPI allows and does not, FUZZ_SECONDS (120) long
	FUZZ_SECONDS=$${FUZZ_SECONDS:-120} $(BIN)/python -m pytest -s $(PYTEST_ARGS) tests/clients/test_openapi.py

# What an application that pins its own dependencies may bring: locks say what headrace is run with,
# pyproject.toml what it can be installed beside. The newest are in the locks.
test-floors: $(FLOORS)/floors.stamp  ## The core of the suite at the oldest dependencies that pyproject.toml allows
	$(FLOORS)/bin/python -m pytest -m "not paired and not alone and not acceptance" $(OLD_NAMES) $(PYTEST_ARGS) $(FLOOR_TESTS)

test-floors-short: FLOOR_TESTS = $(FEW_FLOOR_TESTS)
test-floors-short: test-floors  ## A few of each room, within a minute

# Starlette's test client and uvicorn of that time, beside the anyio and the websockets of today.
OLD_NAMES = -W "ignore:The anyio.abc.BlockingPortal alias is deprecated:DeprecationWarning" \
	-W "ignore:websockets.legacy is deprecated:DeprecationWarning" \
	-W "ignore:websockets.server.WebSocketServerProtocol is deprecated:DeprecationWarning"

FLOOR_TESTS = $(addprefix tests/,assistants auth checkpoints db edge events graphs health idempotency \
	following migrations notices queue runs server states store_items threads worker)
FEW_FLOOR_TESTS = tests/assistants/test_repository.py tests/server/test_custom_app.py tests/server/test_hooks.py \
	tests/threads/test_updates.py \
	tests/queue/test_queue.py tests/worker/test_worker.py tests/checkpoints/test_moving.py \
	tests/db/test_engine.py tests/db/test_own_schema.py

# The settings go through the environment, where `make load LOAD_USERS=50` puts them.
load: $(LOAD)/load.stamp  ## Load LOAD_URL with LOAD_PROFILE=chat|agent|stream|..., LOAD_USERS, LOAD_SECONDS (loadtests/README.md)
	@$(LOAD)/bin/locust --config loadtests/locust.conf --host $(LOAD_URL)

# As with load: `make soak SOAK_REQUESTS=20000`.
soak: $(VENV)/dev.stamp $(LOAD)/load.stamp  ## A million requests of all kinds, and whether anything grows; SOAK_REQUESTS, SOAK_USERS
	@$(BIN)/python -m loadtests.soak

overload: $(VENV)/dev.stamp  ## 320 clients at once: goodput, /livez, refusals, recovery; OVERLOAD_ARGS="--rounds 1"
	@$(BIN)/python -m loadtests.overload $(OVERLOAD_ARGS)

# As with load: `make bench BENCH_ROUNDS=3 BENCH_WORKLOADS=trivial`.
bench: $(VENV)/dev.stamp  ## Checkpoint savers side by side, a quarter of an hour; BENCH_* narrow it (loadtests/README.md)
	@$(BIN)/python -m loadtests.bench

compare: $(VENV)/dev.stamp  ## Servers side by side over HTTP, three quarters of an hour; COMPARE_* narrow it (loadtests/README.md)
	@$(BIN)/python -m loadtests.compare

compare-peers: $(VENV)/dev.stamp  ## Install the servers of others for make compare, each in an environment of its own
	@$(BIN)/python -m loadtests.peers.install

agents: $(VENV)/dev.stamp  ## Agents that stream from a fake model, more and more of them; AGENTS_ARGS="--levels 20,40"
	@$(BIN)/python -m loadtests.agents $(AGENTS_ARGS)

sizing: $(VENV)/dev.stamp  ## Runs of one second at a rising rate, with reads beside; SIZING_ARGS="--rates 100,200"
	@$(BIN)/python -m loadtests.sizing $(SIZING_ARGS)

growth: $(VENV)/dev.stamp  ## What grows with conversations, rows and streams; GROWTH_ARGS (loadtests/README.md)
	@$(BIN)/python -m loadtests.growth $(GROWTH_ARGS)

capacity: $(VENV)/dev.stamp  ## What a number of runs needs; CAPACITY_ARGS="--measure" (docs/capacity.md)
	@$(BIN)/python -m loadtests.capacity $(CAPACITY_ARGS)

semantic: $(VENV)/dev.stamp  ## Searches by meaning: recall and latency at 100,000 items; SEMANTIC_ARGS="--items 10000"
	@$(BIN)/python -m loadtests.semantic $(SEMANTIC_ARGS)

##@ Work

format: $(VENV)/dev.stamp  ## Format and mend what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/dev.stamp  ## Write the generated pages anew
	$(BIN)/headrace settings --write

manifests: $(VENV)/dev.stamp  ## Write dashboards, rules, deploy/kubernetes and the chart's table of values anew
	$(BIN)/python -m deploy.grafana.source
	$(BIN)/python -m tests.deploy.generate

lock: $(VENV)/dev.stamp  ## Renew the lock files: hashes, every platform, no index address
	$(PIP) uv
	$(LOCK) pyproject.toml --extra otel -o requirements.lock
	$(LOCK) pyproject.toml --extra embedded --extra models -o requirements-run.lock
	$(LOCK) pyproject.toml --extra dev -o requirements-dev.lock
	$(LOCK) --group load -o requirements-load.lock
	$(LOCK) --group audit -o requirements-audit.lock
	$(LOCK) pyproject.toml --extra embedded --group floors --resolution lowest-direct \
		-o requirements-floors.lock
	$(LOCK) tests/deploy/requirements.in -o tests/deploy/requirements.lock
	cd tests/clients/js && npm install --package-lock-only --ignore-scripts --no-audit --no-fund \
		--silent --omit-lockfile-registry-resolved

LOCK = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url \
	--no-header --python-version 3.11

audit: $(VENV)/run.stamp $(AUDIT)/audit.stamp  ## Ask for advisories about every locked package; needs the internet (SECURITY.md)
	@$(BIN)/python -m deploy.supply_chain.audit $(AUDIT)/bin/pip-audit $(AUDIT_ARGS)

sbom: $(VENV)/run.stamp $(AUDIT)/audit.stamp  ## Write the image's list of components anew (CycloneDX)
	@$(AUDIT)/bin/python -W ignore -m cyclonedx_py requirements --pyproject pyproject.toml \
		--output-reproducible --output-format JSON requirements.lock \
		| $(BIN)/python -m deploy.supply_chain.sbom $(SBOM)

ci-tools:  ## System packages that some tests use (Debian); then HEADRACE_REQUIRE_TOOLS=1 makes them a must
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
		pgbouncer nginx-light buildah podman runc mmdebstrap prometheus postgresql chromium-headless-shell \
		$$(command -v npm > /dev/null || echo nodejs npm) > /dev/null

clean:  ## Forget the virtual environment and all caches; .headrace, your data, stays
	rm -rf $(VENV) $(LOAD) $(CLIENTS) $(FLOORS) $(AUDIT) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

help:
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Set-up: one environment; what is for development comes on top of what is for running.

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "HR202 $(PYTHON): it is $$($(PYTHON) --version 2>&1), headrace needs Python 3.11 or newer." \
			"Install one and name it: make run PYTHON=python3.12 (docs/errors.md#hr202)" >&2; exit 1; }

$(VENV)/bin/python: | python
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: requirements-run.lock pyproject.toml | $(VENV)/bin/python
	@echo "installing headrace and what it needs (once; about a minute)"
	@$(PIP) --no-deps --require-hashes -r requirements-run.lock
	@$(PIP) --no-deps --editable .
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock pyproject.toml | $(VENV)/run.stamp
	@echo "installing what development needs (once)"
	@$(PIP) --no-deps --require-hashes -r requirements-dev.lock
	@touch $@ $(VENV)/run.stamp

# Locust alone, in an environment of its own: its gevent must not come near the server.
$(LOAD)/load.stamp: requirements-load.lock | python
	@echo "installing what load tests need (once; half a minute)"
	@$(PYTHON) -m venv $(LOAD)
	@$(LOAD)/bin/python -m pip install --quiet --disable-pip-version-check \
		--no-deps --require-hashes -r requirements-load.lock
	@touch $@

# The tools that look at the locks, in an environment of their own.
$(AUDIT)/audit.stamp: requirements-audit.lock | python
	@echo "installing what audits need (once; half a minute)"
	@$(PYTHON) -m venv $(AUDIT)
	@$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check \
		--no-deps --require-hashes -r requirements-audit.lock
	@touch $@

$(FLOORS)/floors.stamp: requirements-floors.lock | python
	@echo "installing the oldest dependencies that headrace allows (once; half a minute)"
	@$(PYTHON) -m venv $(FLOORS)
	@$(FLOORS)/bin/python -m pip install --quiet --disable-pip-version-check \
		--no-deps --require-hashes -r requirements-floors.lock
	@$(FLOORS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

# The JavaScript SDK and what plays it in a browser: from the lock, and no package's own programs run.
$(CLIENTS)/clients.stamp: tests/clients/js/package-lock.json
	@echo "installing the JavaScript client (once; ten seconds)"
	@mkdir -p $(CLIENTS)
	@cp tests/clients/js/package.json tests/clients/js/package-lock.json $(CLIENTS)
	@cd $(CLIENTS) && npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

# What the tests of the images start from: Debian's Python with a pip of its own, as the real base has
# it. Most of the time goes into writing files, so none that nobody reads here: no documentation, and
# nothing that needs the whole of perl (usrmerge, mailcap).
$(IMAGE_BASE):
	@echo "making Debian's Python, the images' base (once; a minute)"
	@mkdir -p $(@D)
	@mmdebstrap --quiet --format=tar --variant=minbase \
		--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr --include=media-types,python3,python3-venv \
		--dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
		--customize-hook='chroot "$$1" python3 -m venv /usr/local' bookworm $@.new
	@mv $@.new $@
