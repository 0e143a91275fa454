# make demo, make test: nothing but Python 3.11 or later and make is needed. Tools go into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-exhaustive check page ray coverage mutants lint format types docs samples notebooks bench release clean

help:  ## Show the targets.
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.with-video $(VENV)/.with-draw  ## Ask about an image, audio and a video; draw what the model reads.
	$(BIN)/python samples/demo.py $(ARGS)

test: $(VENV)/.with-test  ## Run the tests.
	$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

test-exhaustive: $(VENV)/.with-test  ## Run the tests that make test leaves out: more families and sizes.
	$(BIN)/python -m pytest -n auto --dist loadfile -m exhaustive $(ARGS)

check: $(VENV)/.with-test  ## Try the corpus, 20,000 mutants, bombs and properties; print how it went.
	$(BIN)/python -m tests.reliability.check $(ARGS)

ray: $(VENV)/.with-ray-test  ## Encode on a Ray cluster of two nodes on this machine, and end a worker and a node; embed with Daft.
	$(BIN)/python -m pytest -q -m "" tests/omni/bulk/test_ray.py $(ARGS)
	$(BIN)/python samples/embed_with_daft.py "samples/*.jpg" out/daft

coverage: $(VENV)/.with-coverage  ## Run every test and print which lines none has run.
	mkdir -p out/coverage && rm -f out/coverage/data*
	$(BIN)/python -m coverage run -m pytest -q -m "" -n auto --dist loadfile $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --show-missing --skip-covered

page: $(VENV)/.with-page  ## Use the server's page in a real Chromium, which is installed where it is absent.
	@command -v chromium >/dev/null || test -n "$$CHROMIUM" || { apt-get update -q && apt-get install -qy chromium; }
	$(BIN)/python -m tests.omni.server.page

mutants: $(VENV)/.with-coverage  ## Change 400 places of the source, one at a time: does some test notice?
	$(BIN)/python -m tests.reliability.mutants --count 400 --seed 0 $(ARGS)

lint: $(VENV)/.with-lint  ## Check style and formatting.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.with-lint  ## Put style and formatting right.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.with-lint $(VENV)/.with-test  ## Check types.
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m tests.types.complete $(BIN)/python

docs: $(VENV)/.with-docs  ## Build the site into out/site; a warning or a missing name is an error.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict $(ARGS)

samples: $(VENV)/.with-video $(VENV)/.with-draw  ## Run every sample script.
	$(BIN)/python samples/demo.py
	$(BIN)/python samples/embed_folder.py samples out/embeddings
	$(BIN)/python samples/search_pictures.py samples/astronaut.jpg samples
	$(BIN)/python samples/encoders_alone.py
	printf 'Hello.\n/add samples/shapes.png\nWhat is this?\n' | $(BIN)/python samples/chat_terminal.py

bench: $(VENV)/.with-reference $(VENV)/.with-video  ## Run every stage beside the reference, with what this machine can do; make docs/performance.md.
	$(BIN)/python -m benchmarks.run $(ARGS)
	$(if $(findstring --quick,$(ARGS)),,$(BIN)/python -m benchmarks.page)

notebooks: $(VENV)/.with-notebooks $(VENV)/.with-test  ## Run every notebook of samples/ and keep what it shows.
	$(BIN)/python -m samples.notebooks.execute $(ARGS)

release: $(VENV)/.with-release  ## Build what would be published into dist/, and check it; .ci/release --tag tags it.
	PYTHON=$(BIN)/python .ci/release $(ARGS)

bench-%: $(VENV)/.with-reference  ## Run benchmarks/%.py beside the reference (installs torch).
	$(BIN)/python -m benchmarks.$* $(ARGS)

clean:  ## Remove .venv and everything that was made.
	rm -rf $(VENV) build dist out *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp an extra: a second call installs nothing.
$(VENV)/.with-%: pyproject.toml | $(BIN)/python
	@echo "Installing omni-jax[$*] into $(VENV)"
	@if [ -x "$$(command -v uv)" ]; then uv pip install --quiet --python $(BIN)/python -e ".[$*]"; \
	else $(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$*]"; fi
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "Python 3.11 or later is needed; name one with make PYTHON=python3.12" >&2; exit 2; }
	@if [ -x "$$(command -v uv)" ]; then uv venv --quiet --seed --python $(PYTHON) $(VENV); else $(PYTHON) -m venv $(VENV); fi
