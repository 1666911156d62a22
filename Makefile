# Two commands need nothing but Python >= 3.11 with pip and venv:
#   make demo    set up and run the embedded clip through the live path
#   make test    set up and run all tests
#   make train   render faces and train the embedded network anew (hours; needs the face model)
# PYTHON=/path/to/python chooses the interpreter, ARGS=... is handed on (make test ARGS="-k lrp").

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
WORKERS ?= 2

.PHONY: demo test lint types format clean train docs dist

demo: $(VENV)/.run
	$(BIN)/facestage demo $(ARGS)

test: $(VENV)/.dev
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup $(ARGS)

# Both steps go on where they were when run again. On a GPU: DEVICE=cuda.
RUN ?= runs/au_net
FACES ?= 102400
VIEWS ?= 3000000
DEVICE ?= cpu
train: $(VENV)/.dev
	$(BIN)/python -m training render --out $(RUN)/shards --seed 1 --count $(FACES) --device $(DEVICE)
	$(BIN)/python -m training train --shards $(RUN)/shards --out $(RUN)/checkpoints \
		--views $(VIEWS) --seed 1 --processes $(WORKERS) --device $(DEVICE)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The types of the page's scripts need tsc; REQUIRE_TSC=1 makes its absence an error.
REQUIRE_TSC ?=
types: $(VENV)/.dev
	$(BIN)/pyright
	@if command -v tsc >/dev/null; then echo "tsc -p stream/overlay"; tsc -p stream/overlay; \
	else echo "the page's types were not checked: there is no tsc (Debian: apt-get install node-typescript)"; \
	test -z "$(REQUIRE_TSC)"; fi

# The pages of docs/ as a site in site/; nothing is fetched while it is built.
docs: $(VENV)/.run $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

# The files of a release in dist/: make dist HOME_URL=https://example.org/facestage
dist: $(VENV)/.dev
	@test -n "$(HOME_URL)" || { echo "name the address of the repository: make dist HOME_URL=https://…"; exit 2; }
	$(BIN)/python -m pip install --quiet build twine check-wheel-contents
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m tools.dist --home "$(HOME_URL)" $(ARGS)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .ruff_cache .hypothesis
	find core stream tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "facestage needs Python 3.11 or newer on the PATH (or make PYTHON=/path/to/python)"; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "could not create $(VENV): install the venv module (Debian: apt-get install python3-venv)"; exit 2; }

$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.run

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet 'mkdocs>=1.6,<2' 'mkdocs-material>=9.5,<10' 'mkdocstrings[python]>=0.28'
	@touch $@
