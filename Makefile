# The verbs of llm_net. `make` lists them; each sets up what it needs, once, in .venv.

PYTHON ?= python3
VENV ?= .venv
PYTHONS ?= python3.11 python3.12 python3.13

PY := $(VENV)/bin/python
CHECKED := llm_net mesa_bridge tests $(wildcard examples)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# A caller's settings may say where packages come from, but not send them anywhere but $(VENV).
unexport PYTHONHOME PYTHONPATH
unexport PIP_BREAK_SYSTEM_PACKAGES PIP_CONSTRAINT PIP_DRY_RUN PIP_EDITABLE PIP_IGNORE_INSTALLED \
    PIP_NO_BINARY PIP_NO_BUILD_ISOLATION PIP_NO_DEPS PIP_PREFIX PIP_PYTHON PIP_REQUIRE_HASHES \
    PIP_REQUIRE_VIRTUALENV PIP_REQUIREMENT PIP_ROOT PIP_TARGET PIP_UPGRADE
# Set, not unset: a pip.conf may say `user = true`, and the environment wins over it.
export PIP_USER := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Run pip in $(VENV). Where Python came without ensurepip, the environment holds no pip, and the
# machine's own works on it from outside.
pip = if [ -e $(VENV)/.pip-outside ]; then set -- "$(PYTHON)" -m pip --python $(PY); \
    else set -- $(PY) -m pip; fi; "$$@"

.PHONY: help
help: ## List the verbs
	@echo "Usage: make VERB [PYTHON=python3.12]"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/\1|\2/p' Makefile | \
	    while IFS='|' read -r verb text; do printf '  %-10s %s\n' "$$verb" "$$text"; done

.PHONY: demo
demo: weights ## Run a contract net on the embedded language model: no key, no account
	@$(PY) -m examples.contract_net

.PHONY: test
test: weights ## Run the tests, those on the embedded language model too
	@$(PY) -m pytest

.PHONY: check
check: check-style check-mypy check-pyright check-imports ## Check style, types and imports

.PHONY: check-style check-mypy check-pyright check-imports
check-style: install
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
check-mypy: install
	@$(PY) -m mypy $(CHECKED)
check-pyright: install
	@$(PY) -m basedpyright --pythonpath $(PY)
check-imports: install
	@$(PY) -c 'from importlinter.cli import lint_imports_command as check; check()' --no-logo

.PHONY: test-all
test-all: ## Run the tests on every supported Python found on this machine
	@ran=; \
	for python in $(PYTHONS); do \
	    if ! "$$python" -c '' >/dev/null 2>&1; then echo "--- no $$python here"; continue; fi; \
	    echo "--- $$python"; \
	    $(MAKE) test PYTHON="$$python" VENV=".venv-$$python" || exit 1; \
	    ran="$$ran $$python"; \
	done; \
	if [ -z "$$ran" ]; then echo "Found none of $(PYTHONS)." >&2; exit 1; fi; \
	echo "--- all tests passed on$$ran"

.PHONY: bench
bench: ## Run the benchmarks beside the peers, and write the table of docs/performance.md
	@$(MAKE) .venv-bench/.peers VENV=.venv-bench
	@.venv-bench/bin/python benchmarks/run.py --table docs/performance.md \
	    --raw .venv-bench/lines.jsonl $(BENCH)

.PHONY: test-slow
test-slow: weights ## Run the slow tests: stress with real threads, a thousand seeds, other Pythons
	@$(PY) -m pytest -m slow

.PHONY: mutants
mutants: install ## Break the code in one line after the other, and see that the tests notice
	@$(PY) tests/mutants.py

.PHONY: format
format: install ## Format the code, and mend what ruff can mend
	@$(PY) -m ruff check --fix-only .
	@$(PY) -m ruff format .

# Without the settings of this machine: no host and no path of it may stand in the lock file.
.PHONY: lock
lock: install ## Pin the newest allowed dependencies, with their hashes
	@$(pip) install --quiet uv
	@$(PY) -m uv --no-config --system-certs pip compile --quiet --upgrade \
	    --universal --python-version 3.11 --extra dev --generate-hashes --no-header \
	    --no-annotate --no-emit-index-url --no-emit-find-links --output-file requirements.lock pyproject.toml

.PHONY: clean
clean: ## Remove everything that these verbs have made here
	@rm -rf .venv .venv-* .cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find llm_net mesa_bridge tests benchmarks $(wildcard examples) -type d -name __pycache__ -prune -exec rm -rf {} +

# What the verbs stand on. Each step leaves a file, so that it is not done again.

.PHONY: install weights
install: $(VENV)/.project

weights: install
	@$(PY) -m llm_net.llm.weights

# The project in place (edits count at once), with the build backend of the lock file.
$(VENV)/.project: pyproject.toml $(VENV)/.lock
	@$(pip) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# The libraries that `make bench` compares with, beside the project.
$(VENV)/.peers: benchmarks/requirements.txt $(VENV)/.project
	@echo "Installing the peers into $(VENV) (once)..."
	@$(pip) install --quiet --requirement benchmarks/requirements.txt
	@touch $@

$(VENV)/.lock: requirements.lock $(VENV)/.python
	@echo "Installing what requirements.lock names into $(VENV) (once; a minute or so)..."
	@$(pip) install --quiet --require-hashes --requirement requirements.lock
	@touch $@

# Looked at every time; made anew when PYTHON names another Python than last time, and when the
# project has moved (an environment holds its own path).
$(VENV)/.python: always
	@if [ "$$(cat $@ 2>/dev/null)" = "$(PYTHON) in $$PWD" ] && $(PY) -c '' 2>/dev/null; then exit 0; fi; \
	if ! command -v "$(PYTHON)" >/dev/null; then \
	    echo "There is no '$(PYTHON)' on this machine. llm_net needs Python 3.11 or newer:" \
	        "install it, or name yours, as in 'make demo PYTHON=python3.12'." >&2; exit 1; \
	fi; \
	if ! "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
	    echo "'$(PYTHON)' is $$("$(PYTHON)" --version 2>&1), and llm_net needs Python 3.11 or newer." \
	        "Install one, or name yours, as in 'make demo PYTHON=python3.12'." >&2; exit 1; \
	fi; \
	rm -rf $(VENV); \
	if ! said=$$("$(PYTHON)" -m venv $(VENV) 2>&1); then \
	    rm -rf $(VENV); \
	    if "$(PYTHON)" -m venv --without-pip $(VENV) >/dev/null 2>&1 && \
	        "$(PYTHON)" -m pip --python $(PY) --version >/dev/null 2>&1; then \
	        touch $(VENV)/.pip-outside; \
	    else \
	        rm -rf $(VENV); \
	        echo "$$said" >&2; \
	        echo "So '$(PYTHON)' cannot make a virtual environment with pip in it, nor has it a pip" \
	            "(22.3 or newer) of its own to fill one from outside. Either will do: on Debian and" \
	            "Ubuntu, 'apt-get install python3-venv'." >&2; exit 1; \
	    fi; \
	fi; \
	echo "$(PYTHON) in $$PWD" >$@

.PHONY: always
always:
