.DEFAULT_GOAL := help
VENV := .venv
PYTHON ?= python3
RUN := $(VENV)/bin
# How many resources and lives the properties try: make unit EXAMPLES=1000.
EXAMPLES ?= 100
# How many random worlds stand still, and which: make worlds WORLDS=20000 SEED=7. CI tries 20 000.
WORLDS ?= 20000
SEED ?= 1
PROPERTIES := tests/unit/test_properties.py tests/unit/test_lifecycle.py

# A kubeconfig counts only when it is passed on purpose: make demo KUBECONFIG=FILE
ON_PURPOSE := $(if $(filter command line,$(origin KUBECONFIG)),GOSERVICE_TEST_KUBECONFIG=$(abspath $(KUBECONFIG)))
CLUSTER := $(ON_PURPOSE) $(abspath $(RUN))/python -m testbed.node

.PHONY: help
help:
	@awk -F':.*## ' '/^##@ /{print substr($$0, 5)} /^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { apt-get update -qq && apt-get install -y -q --no-remove --no-install-recommends python3-venv && $(PYTHON) -m venv $(VENV); }
	$(RUN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

##@ Try and install

.PHONY: demo
demo: setup ## From nothing to a running service on a real cluster
	@$(CLUSTER) demo

.PHONY: demo-down
demo-down: setup ## Remove what the demo made; only the cache folder stays
	@$(CLUSTER) demo-down

.PHONY: wheels
wheels: setup
	rm -rf wheels && $(RUN)/python -m pip wheel -q -c constraints.txt -w wheels .

.PHONY: image
image: wheels ## Build and push the operator's image: IMG=registry/name:tag
	@test -n "$(IMG)" || { echo "make image needs IMG=registry/name:tag" >&2; exit 2; }
	docker build -t $(IMG) . && docker push $(IMG)

##@ Test

.PHONY: test
test: EXAMPLES = 10000
test: check programs ## Everything that CI runs
	@echo "Three lanes side by side: (unit, executor), (apiserver) and (e2e). Each prints when it ends."
	$(MAKE) --no-print-directory -j3 --output-sync=target EXAMPLES=$(EXAMPLES) lane apiserver e2e

.PHONY: lane
lane:
	$(MAKE) --no-print-directory EXAMPLES=$(EXAMPLES) unit executor

.PHONY: check
check: setup ## Linters, types and import contracts
	$(RUN)/ruff format --check operator testbed tests benchmarks docs
	$(RUN)/ruff check operator testbed tests benchmarks docs
	$(RUN)/mypy
	$(RUN)/lint-imports
	$(RUN)/yamllint -s -c .yamllint.yaml manifests
	git ls-files '*.sh' .ci/run | xargs $(RUN)/shellcheck

.PHONY: unit
unit: setup ## Tests that need no cluster, and their coverage
	EXAMPLES=100 WORLDS=200 $(RUN)/python -m coverage run -m pytest -q -m "not e2e" --ignore=tests/faults
	$(RUN)/python -m coverage report
	EXAMPLES=$(EXAMPLES) $(RUN)/python -m pytest -q tests/faults $(PROPERTIES)
	WORLDS=$(WORLDS) SEED=$(SEED) $(RUN)/python -m pytest -q tests/unit/test_worlds.py

# Random worlds that stand still: all is silent, nothing raises.
.PHONY: worlds
worlds: setup
	WORLDS=$(WORLDS) SEED=$(SEED) $(RUN)/python -m pytest -q tests/unit/test_worlds.py

# What holds for every resource: make properties EXAMPLES=100000.
.PHONY: properties
properties: setup
	EXAMPLES=$(EXAMPLES) $(RUN)/python -m pytest -q $(PROPERTIES)

.PHONY: executor
executor: programs ## The stand-in for Kaniko, held to facts recorded from Kaniko
	@$(CLUSTER) test-executor

.PHONY: apiserver
apiserver: programs ## The operator against a real API server without a node
	$(RUN)/python -m pytest -q -m "e2e and not node"

.PHONY: e2e
e2e: programs ## The whole path on the local node, as a user does it
	$(RUN)/python -m pytest -q -m node

##@ Measure

.PHONY: bench
bench: programs ## What the operator costs: [FULL=1] [ARGS='-o json']
	@$(RUN)/python -m benchmarks $(if $(FULL),--full) $(ARGS)

.PHONY: bench-build
bench-build: programs ## What a build costs on the local node
	@$(RUN)/python -m benchmarks.build $(ARGS)

.PHONY: bench-bounds
bench-bounds: setup ## What the worst input costs: [ARGS='--small -o json']
	@$(RUN)/python -m benchmarks.bounds $(ARGS)

##@ Write what is generated

.PHONY: docs
docs: setup ## Write the tables of docs/ anew
	$(RUN)/python docs/reference.py

.PHONY: crds
crds: setup ## Write the CRD anew
	$(RUN)/goservice crd > crds/goservices.goservice.dev.yaml

.PHONY: golden
golden: setup ## Write the golden files anew
	UPDATE_GOLDEN=1 $(RUN)/python -m pytest -q tests/golden/test_golden.py
	$(RUN)/python -m tests.contract.old_hashes

.PHONY: constraints
constraints: setup ## Compile the pinned versions anew
	$(RUN)/python -m pip install -q uv
	$(RUN)/uv pip compile -q --upgrade --extra dev --no-header --no-annotate pyproject.toml -o constraints.txt

##@ Prepare (the others do it by themselves)

.PHONY: setup
setup: $(VENV)/.installed ## Install what development needs into .venv

.PHONY: programs
programs: setup ## Compile what the tests need (the first time: 15 minutes)
	@$(CLUSTER) build
