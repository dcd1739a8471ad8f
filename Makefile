# Each target sets up all it needs by itself: the virtual environment, the Python packages and the local DynamoDB
# engine. What stands already is not set up again, so the second run of a target starts at once.

PYTHON ?= python3

# Most tests wait for processes that they start, so a few more run at once than there are cores.
TEST_PROCESSES ?= 4

# Of `make faults`: how many runs, the seed of the first one, how many at a time; MARKDOWN=FILE takes the table.
RUNS ?= 20
SEED ?= 1
AT_ONCE ?= 3

VENV := .venv
BIN := $(VENV)/bin
FOR_DEMO := $(VENV)/.demo
INSTALLED := $(VENV)/.installed
FOR_DOCS := $(VENV)/.docs
FOR_AUDIT := $(VENV)/.audit
ENGINES := $(VENV)/.engines

# Without the variable, Material says at each run that it is maintained until May 2027 only.
DOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs

.DEFAULT_GOAL := help
.PHONY: help demo picture test acceptance faults lint docs docs-serve bench fuzz audit clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(ENGINES) ## Run a nested job end to end on real servers and real Celery workers
	$(BIN)/sosw-celery demo

picture: $(INSTALLED) $(ENGINES) ## Run the demo and draw what it shows into docs/demo.svg, for the README
	$(BIN)/python -m tools.picture docs/demo.svg

test: $(INSTALLED) $(ENGINES) ## Run the tests: units, contracts of the stores, a whole system for each feature (7 minutes)
	$(BIN)/python -m pytest tests --ignore tests/acceptance --numprocesses $(TEST_PROCESSES) --dist load --maxschedchunk 1

acceptance: $(INSTALLED) $(ENGINES) ## Run the commands as a user's shell does, and short fault runs of whole systems (6 minutes)
	$(BIN)/python -m pytest tests/acceptance --numprocesses $(TEST_PROCESSES) --dist loadfile

faults: $(INSTALLED) $(ENGINES) ## Kill, freeze and cut what can be, RUNS times from SEED on, and check every promise
	$(BIN)/python -m tests.faults --runs $(RUNS) --seed $(SEED) --at-once $(AT_ONCE) $(if $(MARKDOWN),--markdown $(MARKDOWN))

lint: $(INSTALLED) $(FOR_AUDIT) ## Check style (ruff), types (mypy --strict), which way imports go, and for known weaknesses in the code (bandit)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy sosw_celery workers benchmarks tools
	$(BIN)/lint-imports
	$(FOR_AUDIT)/bin/python tools/audit.py

bench: $(INSTALLED) $(ENGINES) ## Measure speed and cost beside plain Celery and sosw (an hour), into benchmarks/results.md
	$(BIN)/python -m benchmarks --output benchmarks/results.md

fuzz: $(INSTALLED) $(ENGINES) ## Make some fifty thousand hostile inputs; `make test` makes some two thousand of them
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest tests/fuzz --timeout 1800 --show-capture no

audit: $(INSTALLED) $(FOR_AUDIT) ## Look for known weaknesses in the code (bandit) and in its packages (pip-audit)
	$(FOR_AUDIT)/bin/python tools/audit.py "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

docs: $(FOR_DOCS) ## Build the documents as a site, into site/; a warning is an error
	$(DOCS) build --strict --quiet

docs-serve: $(FOR_DOCS) ## Show the documents on http://127.0.0.1:8000, again after each change
	$(DOCS) serve

clean: ## Remove everything that the other targets made
	rm -rf $(VENV) site .cache .sosw .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps depend on what decides their content, so a change there brings the environment up to date.
#
# Who wants to see the demo needs none of the developers' tools: this is 140 MB, with them it is 640.
$(FOR_DEMO): setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[local]'
	touch $@

$(INSTALLED): $(FOR_DEMO)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[local,test,dev]'
	touch $@

$(FOR_DOCS): setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

# Apart from our own environment, so that the tools are not among what they audit.
$(FOR_AUDIT): setup.cfg
	$(PYTHON) -m venv $(FOR_AUDIT)
	$(FOR_AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check 'bandit[toml]>=1.9.4' 'pip-audit>=2.10.1'
	touch $@

# Exit status 3: an engine is not to be had here and a stand-in will do its work; say so again the next time.
$(ENGINES): $(FOR_DEMO) sosw_celery/local/engines.py
	$(BIN)/python -m sosw_celery.local fetch && touch $@ || test $$? -eq 3
