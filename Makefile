# One command each; `make` alone lists them. All that is installed lies in .venv, all state in .convoy.

BIN := .venv/bin
STAMP := .venv/.installed
# Where compiled modules are not kept, every start of Prefect, MLflow and torch takes twice the time.
unexport PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONPATH VIRTUAL_ENV
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Of the tests: two a core, for they wait for processes that they start; four at most, each takes 1.5 GB.
WORKERS = $(shell cores=$$(getconf _NPROCESSORS_ONLN); [ $$cores -lt 2 ] && echo 2 || echo 4)

.PHONY: help run setup test quick lint lock clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

run: setup ## do the main job of params.yaml: only what changed is done again
	@$(BIN)/convoy run

test: setup ## run the tests
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

quick: setup ## run the tests that a person runs while working: all but the slow ones
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not slow"

lint: $(STAMP) ## check style, formatting, types and import layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

setup: $(STAMP) .convoy/.prepared ## install the environment and prepare the databases; `run` and `test` do it by themselves

lock: $(STAMP) ## write requirements.lock anew after a change of pyproject.toml; `make lock UPGRADE=1` takes newer versions
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--group dev $(if $(UPGRADE),--upgrade) --output-file requirements.lock pyproject.toml
	@echo "requirements.lock is up to date; the next make installs it."

clean: ## remove the environment and caches; runs, models and databases stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info .convoy/.prepared

# The first python3 that is new enough and can make environments, as $$python.
define FIND_PYTHON
new=; python=; \
for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.14; do \
	$$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
	new=$$candidate; \
	if $$candidate -c 'import ensurepip, venv' >/dev/null 2>&1; then python=$$candidate; break; fi; \
done; \
if [ -z "$$new" ]; then \
	echo "Convoy needs Python 3.11 or newer, and none is on the PATH. Install one, or: make PYTHON=/path/to/python3" >&2; \
	exit 1; \
elif [ -z "$$python" ]; then \
	echo "$$new cannot make environments: its venv module is missing. On Debian and Ubuntu: apt install python3-venv" >&2; \
	exit 1; \
fi
endef

# uv comes by pip, pinned and hashed in the lock like everything else, and installs the rest. setuptools comes along:
# what must be built here is built with it, so that nothing at all is fetched without a hash.
$(STAMP): requirements.lock pyproject.toml
	@if ! $(BIN)/uv --version >/dev/null 2>&1; then \
		$(FIND_PYTHON); \
		echo "Make .venv with $$($$python --version) ..."; \
		$$python -m venv --clear .venv || exit 1; \
		sed -n -e '/^uv==/,/# via/p' -e '/^setuptools==/,/# via/p' requirements.lock > .venv/first.txt; \
		$(BIN)/python -m pip install --quiet --require-hashes --requirement .venv/first.txt || exit 1; \
	fi
	@echo "Install the packages of requirements.lock (the first time 3 GB or so, most of it for GPUs) ..."
	@$(BIN)/uv pip sync --python $(BIN)/python --require-hashes --no-build-isolation requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --offline --editable .
	@touch $@

# Beside the databases, what a run imports is compiled; else the first run would do it and take longer.
.convoy/.prepared: $(STAMP)
	@$(BIN)/python -c 'import albumentations, dvc.repo, sklearn.metrics, timm, torchvision' >/dev/null 2>&1 & \
		$(BIN)/python -m flows.servers.dashboards prepare && wait
	@touch $@
