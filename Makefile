# `make demo` and `make test` are all that a fresh clone needs: Python 3.11 or later, make and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8080
# An environment of its own: it holds a gigabyte, and `make test` is not to depend on what is in it.
APPLICATIONS := $(VENV)-applications
# Tests start over a thousand Pythons: without stored bytecode each of them compiles all modules, and pytest
# rewrites all assertions in each of its processes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-all test-pythons test-free-threaded bench-free-threaded test-applications check generated bump release changelog changelog-draft format fuzz fuzz-fast soak bench findings clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

demo: $(VENV)/.demo ## the demo page behind a private Nginx: http://127.0.0.1:8080
	$(BIN)/uwsgibridge demo --port $(PORT)

# The tests of one module stay together: they share what they have started. Most of them wait for processes, so
# that two cores have work for four.
IN_PARALLEL := --numprocesses=4 --dist=loadscope --no-loadscope-reorder

test: $(VENV)/.test $(VENV)/.rewritten ## all tests; the Docker Compose half where an engine answers
	$(BIN)/python -m pytest $(IN_PARALLEL)

test-all: $(VENV)/.test ## all tests on every event loop and socket; takes four times as long
	$(BIN)/python -m pytest $(IN_PARALLEL) --all-combinations

# What pyenv has is not on PATH, and is named to tox. ARGS="-e 3.14" takes one of them.
PYENV_PYTHONS = $(wildcard $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions/3.1[1-5].*/bin/python3)
test-pythons: $(VENV)/.pythons ## the unit tests on each Python from 3.11 to 3.15 that is installed
	$(BIN)/tox run $(if $(PYENV_PYTHONS),--discover $(PYENV_PYTHONS)) $(ARGS)

# Of the distributions, few have such a Python: `tests/free_threaded/build-python PREFIX` builds one.
FREE_THREADED_PYTHON ?= $(firstword $(shell command -v python3.14t python3.13t) python3.13t)
FREE_THREADED := $(VENV)-free-threaded
test-free-threaded: $(FREE_THREADED)/.test ## the unit tests without the GIL; FREE_THREADED_PYTHON=... names a free-threaded Python
	UWSGIBRIDGE_REQUIRE_ACCELERATOR=1 $(FREE_THREADED)/bin/python -m pytest $(IN_PARALLEL) tests/free_threaded $(WITHOUT_GIL)

# What threads, the accelerator and processes do. What frameworks and the command line do is the same with the GIL.
WITHOUT_GIL := $(addprefix tests/,connection fast fuzz hosts link loop protocol telemetry worker)

test-applications: $(APPLICATIONS)/.test ## MCP, Gradio, Django Channels and others, each behind a real Nginx; many packages
	UWSGIBRIDGE_REQUIRE_APPLICATIONS=1 $(APPLICATIONS)/bin/python -m pytest $(IN_PARALLEL) --all-combinations integration/applications

check: $(VENV)/.check ## ruff, its formatter, and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

generated: $(VENV)/.test ## write anew what is made of the tables: reference pages, man pages, completion, JSON Schema
	$(BIN)/python -m uwsgibridge.config.reference >docs/options.md.new && mv docs/options.md.new docs/options.md
	$(BIN)/python -m uwsgibridge.config.schema >docs/uwsgibridge.schema.json.new && mv docs/uwsgibridge.schema.json.new docs/uwsgibridge.schema.json
	$(BIN)/python -m uwsgibridge.cli.manual docs

bump: $(VENV)/.test $(VENV)/.check ## set the version, and make its section of CHANGELOG.md: make bump VERSION=1.2.0
	@echo '$(VERSION)' | grep -qxE '[0-9]+\.[0-9]+\.[0-9]+((a|b|rc)[0-9]+)?' || \
	  { echo "name the version: make bump VERSION=1.2.0" >&2; exit 1; }
	sed -i 's/^__version__ = .*/__version__ = "$(VERSION)"/' uwsgibridge/_version.py
	$(BIN)/towncrier build --yes --version $(VERSION)

release: $(VENV)/.release ## build the release into dist/ and check it; publishes nothing
	.ci/release $(BIN)/python

changelog: $(VENV)/.check ## make the release's section of CHANGELOG.md out of changelog.d/
	$(BIN)/towncrier build --yes

changelog-draft: $(VENV)/.check ## print that section, and change nothing
	$(BIN)/towncrier build --draft

format: $(VENV)/.check ## let ruff format and mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Instead of the deadline of a test in pyproject.toml.
AN_HOUR := -o timeout=3600 -o faulthandler_timeout=3660

fuzz: $(VENV)/.test ## many more generated packets than `make test` tries
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest $(AN_HOUR) tests/fuzz

fuzz-fast: $(VENV)/.test ## the accelerator under AddressSanitizer, with millions of broken packets; takes minutes
	$(BIN)/python -m tests.fuzz.fast_under_sanitizers $(ARGS)

soak: $(VENV)/.test ## the long runs: thousands of WebSockets, minutes of load
	$(BIN)/python -m pytest $(AN_HOUR) -m soak integration

bench: $(VENV)/.bench ## side by side with uWSGI, gunicorn and uvicorn behind one Nginx; needs wrk
	$(BIN)/python -m benchmarks $(ARGS)

bench-free-threaded: $(FREE_THREADED)/.test ## how one worker's throughput grows with its threads, without the GIL; needs a C compiler
	$(FREE_THREADED)/bin/python -m benchmarks.scaling $(ARGS)

bench-instructions: $(VENV)/.bench ## instructions that a request costs, held against the last figures; needs valgrind
	$(BIN)/python -m benchmarks.instructions $(ARGS)

# Outside CI: they install public packages, and what they look at is not ours to mend.
FINDINGS := findings
findings: ## run each script of findings/, and say whose behaviour has changed; takes minutes, and needs Debian 12
	@changed=0; \
	for script in $(FINDINGS)/*.sh; do \
	  if output=$$(timeout 300 "$$script" 2>&1 </dev/null); then \
	    echo "pass  $$script"; \
	  else \
	    echo "FAIL  $$script (exit status $$?)"; \
	    printf '%s\n' "$$output" | sed 's/^/      /' >&2; \
	    changed=1; \
	  fi; \
	done; \
	exit $$changed

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) $(VENV)-pythons $(APPLICATIONS) $(FREE_THREADED) .mypy_cache .ruff_cache .pytest_cache .hypothesis

# What is installed is said first: it takes about a minute, in which pip is silent.
INSTALLING = @echo "Installing into $(VENV), which is done once and takes about a minute:"

# What an installation is made of: another state of the accelerator has to be compiled.
BUILD := pyproject.toml build_fast.py $(wildcard uwsgibridge/fast/*.[ch])

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "uwsgibridge needs Python 3.11 or later; name one with: make PYTHON=python3.13 ..." >&2; exit 1; }
	@echo "Making a virtual environment in $(VENV) with $$($(PYTHON) --version) ..."
	@# Half of one is removed, for the next try would take it for a whole one. What is missing, venv says.
	@$(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet --upgrade pip || \
	  { rm -rf $(VENV); exit 1; }

$(VENV)/.demo: $(BUILD) | $(VENV)/bin/python
	$(INSTALLING) "uwsgibridge, Nginx, and what the example applications need ..."
	@$(BIN)/python -m pip install --quiet --editable '.[demo,nginx,uvloop,dev]'
	@touch $@

$(VENV)/.test: $(BUILD) | $(VENV)/bin/python
	$(INSTALLING) "uwsgibridge, Nginx, pytest and web frameworks ..."
	@$(BIN)/python -m pip install --quiet --editable '.[test,kubernetes]'
	@touch $@

# pytest rewrites the assertions of each module and keeps what it makes. This does it once, on both processors;
# else each of the processes of a first run would do all of it.
$(VENV)/.rewritten: | $(VENV)/.test
	@for half in tests integration; do \
	  $(BIN)/python -m pytest --collect-only --quiet $$half >/dev/null 2>&1 & \
	done; wait
	@touch $@

$(VENV)/.pythons: $(BUILD) | $(VENV)/bin/python
	@$(BIN)/python -m pip install --quiet --editable '.[pythons]'
	@touch $@

# Of some packages, only older releases have a wheel for it.
$(FREE_THREADED)/.test: $(BUILD)
	@$(FREE_THREADED_PYTHON) -c 'import sys; sys.exit(sys._is_gil_enabled())' || \
	  { echo "name a free-threaded Python: make test-free-threaded FREE_THREADED_PYTHON=.../bin/python3" >&2; exit 1; }
	@test -x $(FREE_THREADED)/bin/python || $(FREE_THREADED_PYTHON) -m venv $(FREE_THREADED)
	@$(FREE_THREADED)/bin/python -m pip install --quiet --prefer-binary --editable '.[free-threaded]'
	@touch $@

$(APPLICATIONS)/.test: $(BUILD) | $(VENV)/bin/python
	$(BIN)/python -m venv $(APPLICATIONS)
	$(APPLICATIONS)/bin/python -m pip install --quiet --upgrade pip
	$(APPLICATIONS)/bin/python -m pip install --quiet --editable '.[applications]'
	@touch $@

$(VENV)/.check: $(BUILD) | $(VENV)/bin/python
	$(INSTALLING) "uwsgibridge, ruff, mypy, and what the tests import ..."
	@$(BIN)/python -m pip install --quiet --editable '.[test,check]'
	@touch $@

$(VENV)/.release: $(BUILD) | $(VENV)/bin/python
	$(INSTALLING) "uwsgibridge, and what builds and checks packages ..."
	@$(BIN)/python -m pip install --quiet --editable '.[test,release]'
	@touch $@

$(VENV)/.bench: $(BUILD) | $(VENV)/bin/python
	$(INSTALLING) "uwsgibridge, and the servers that it is compared with ..."
	@$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@
