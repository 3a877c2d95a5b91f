# relay from a fresh clone: `make demo` shows it at work, `make test` tests it. All set-up goes to .venv.

PYTHON ?= python3
UV ?= uv
ARGS ?=

# How long `make fuzz` tries each of its targets, in seconds.
FUZZ_S ?= 60

# Each process has a Postgres of its own; one that runs out of tests takes some of the other's.
PYTEST_ARGS ?= -n auto --dist worksteal

# What tests need beyond PyPI, as command:package (Node may be there from elsewhere, and Debian's would collide with it).
# PHP's mbstring, which is no command, is looked for by itself. As root `make test` installs what is missing; other
# users are told, and the tests that need it are skipped with the reason.
DEBIAN_PACKAGES ?= curl:curl openssl:openssl php:php-cli node:nodejs pgbouncer:pgbouncer

VENV := .venv
PY := $(VENV)/bin/python
CODE := relay tests

# Wishes for other places than .venv have no meaning here.
unexport PIP_USER PIP_TARGET PIP_PREFIX PYTHONHOME PYTHONPATH

heading = @printf '\n== %s\n' '$(1)'

.DELETE_ON_ERROR:
.PHONY: help demo test lint format fuzz lock packages clean

help:
	@echo 'make demo     show relay at work: embedded Postgres, three simulated vendors, a stream of customers'
	@echo '              (make demo ARGS="--once --customers 5000" ends by itself)'
	@echo 'make test     format and lint checks, types, layers, and all tests'
	@echo 'make lint     the same without the tests'
	@echo 'make format   let ruff format and mend the code'
	@echo 'make fuzz     try whatever reads others’ input with inputs that a fuzzer makes up, 60 s each (make fuzz FUZZ_S=600'
	@echo '              ARGS="json forms" tries two of them longer)'
	@echo 'make lock     choose dependencies anew within pyproject.toml (needs uv; ARGS=--upgrade for newer ones)'
	@echo 'make clean    remove .venv and all caches'

demo: $(VENV)/ready
	@$(PY) -m relay demo $(ARGS)

test: lint packages
	$(call heading,pytest)
	@$(PY) -m pytest $(PYTEST_ARGS) $(ARGS)

lint: $(VENV)/ready
	$(call heading,ruff format)
	@$(PY) -m ruff format --check $(CODE)
	$(call heading,ruff check)
	@$(PY) -m ruff check $(CODE)
	$(call heading,mypy)
	@$(PY) -m mypy
	$(call heading,import-linter)
	@$(VENV)/bin/lint-imports

format: $(VENV)/ready
	@$(PY) -m ruff format $(CODE)
	@$(PY) -m ruff check --fix $(CODE)

fuzz: $(VENV)/ready
	@FUZZ_S=$(FUZZ_S) $(PY) -m tests.fuzz $(ARGS)

lock:
	@$(UV) pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-annotate \
		--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' --quiet $(ARGS) -o requirements.lock

packages:
	@missing=''; \
	for wanted in $(DEBIAN_PACKAGES); do \
		command -v "$${wanted%%:*}" >/dev/null || missing="$$missing $${wanted#*:}"; \
	done; \
	php -m 2>/dev/null | grep -qx mbstring || missing="$$missing php-mbstring"; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing && missing=''; \
	fi; \
	if [ -n "$$missing" ]; then echo "Not installed, so some tests will be skipped:$$missing (as root: apt-get install$$missing)"; fi

clean:
	rm -rf $(VENV) .cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The package itself is not installed: a .pth file names the checkout, so no build tool is needed and nothing goes stale.
$(VENV)/ready: requirements.lock
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("relay needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + "; name another one: make PYTHON=python3.12 …")'
	@echo 'Setting up $(VENV)'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-input --require-hashes -r requirements.lock
	@$(PY) -c 'import pathlib, sysconfig; pathlib.Path(sysconfig.get_path("purelib"), "relay.pth").write_text(str(pathlib.Path.cwd()) + "\n")'
	@touch $@
