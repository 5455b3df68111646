.DEFAULT_GOAL := help
VENV := .venv
PYTHON ?= python3
RUN := $(VENV)/bin
EXAMPLES ?= 100
# How many resources and lives the properties try: make unit EXAMPLES=1000.

# A kubeconfig counts only when it is passed on purpose: make demo KUBECONFIG=FILE
ON_PURPOSE := $(if $(filter command line,$(origin KUBECONFIG)),GOSERVICE_TEST_KUBECONFIG=$(abspath $(KUBECONFIG)))
CLUSTER := cd tests && $(ON_PURPOSE) $(abspath $(RUN))/python -m cluster

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { apt-get update -qq && apt-get install -y -q --no-remove --no-install-recommends python3-venv && $(PYTHON) -m venv $(VENV); }
	$(RUN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

.PHONY: setup
setup: $(VENV)/.installed ## Install what development needs into .venv

.PHONY: check
check: setup ## Linters, types and import contracts
	$(RUN)/ruff format --check operator tests benchmarks
	$(RUN)/ruff check operator tests benchmarks
	$(RUN)/mypy
	$(RUN)/lint-imports
	$(RUN)/yamllint -s -c .yamllint.yaml manifests

.PHONY: unit
unit: setup ## Tests that need no cluster
	EXAMPLES=$(EXAMPLES) $(RUN)/python -m coverage run -m pytest -q -m "not e2e"
	$(RUN)/python -m coverage report

.PHONY: properties
properties: setup ## What holds for every resource, alone: make properties EXAMPLES=100000
	EXAMPLES=$(EXAMPLES) $(RUN)/python -m pytest -q tests/unit/test_properties.py tests/unit/test_lives.py

.PHONY: executor
executor: programs ## The tests' stand-in for Kaniko, held to facts recorded from Kaniko
	@$(CLUSTER) test-executor

.PHONY: programs
programs: setup ## Packages and compiled programs that the tests need (the first time: 15 minutes)
	@$(CLUSTER) build

.PHONY: apiserver
apiserver: programs ## The operator against a real API server without a node
	$(RUN)/python -m pytest -q -m "e2e and not node"

.PHONY: e2e
e2e: programs ## The whole path on the local node: make demo, then everything that a user does
	$(RUN)/python -m pytest -q -m node

.PHONY: demo
demo: setup ## From nothing to a running service on a real cluster, shown as it happens
	@$(CLUSTER) demo

.PHONY: demo-down
demo-down: setup ## Remove what the demo made; only the cache folder stays
	@$(CLUSTER) demo-down

.PHONY: test
test: EXAMPLES = 10000
test: check programs ## Everything that CI runs, with 10 000 examples of each property
	@echo "Two lanes side by side: (unit, executor, apiserver) and (e2e). Each prints when it ends."
	$(MAKE) --no-print-directory -j2 --output-sync=target EXAMPLES=$(EXAMPLES) lane e2e

.PHONY: lane
lane:
	$(MAKE) --no-print-directory EXAMPLES=$(EXAMPLES) unit executor apiserver

.PHONY: bench
bench: programs ## What the operator costs: make bench [FULL=1] [ARGS="-o json"], see docs/performance.md
	@PYTHONPATH=tests $(RUN)/python -m benchmarks $(if $(FULL),--full) $(ARGS)

.PHONY: bench-build
bench-build: setup ## What a build costs, on the local node; KANIKO_EXECUTOR=FILE for a real Kaniko
	@PYTHONPATH=tests $(RUN)/python -m benchmarks.build $(ARGS)

.PHONY: golden
golden: setup ## Write the golden files anew
	UPDATE_GOLDEN=1 $(RUN)/python -m pytest -q tests/test_golden.py

.PHONY: crds
crds: setup ## Write the CRD anew
	$(RUN)/goservice crd > crds/goservices.goservice.dev.yaml

.PHONY: constraints
constraints: setup ## Compile the pinned versions anew
	$(RUN)/python -m pip install -q uv
	$(RUN)/uv pip compile -q --upgrade --extra dev --no-header --no-annotate pyproject.toml -o constraints.txt

.PHONY: wheels
wheels: setup
	rm -rf wheels && $(RUN)/python -m pip wheel -q -c constraints.txt -w wheels .

.PHONY: image
image: wheels ## Build and push the operator's image: make image IMG=registry.example.com/goservice-operator:0.1.0
	@test -n "$(IMG)" || { echo "make image needs IMG=registry/name:tag" >&2; exit 2; }
	docker build -t $(IMG) . && docker push $(IMG)
