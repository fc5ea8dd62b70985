# Everything sets itself up: a virtual environment in .venv, by plain pip. `make help` lists the targets.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check lint bench mini picture clean

help: ## Show this list.
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: $(STAMP) ## Set up, then the whole story: images, a leaderboard, votes, a trained scorer (two minutes).
	rm -rf demo
	PATH="$(abspath $(BIN)):$$PATH" runs/tiny.sh demo

test: $(STAMP) ## Set up and run the tests (minutes).
	$(BIN)/python -m pytest --numprocesses 2

test-slow: $(STAMP) ## The tests that take many minutes or gigabytes.
	$(BIN)/python -m pytest -m slow

lint: $(STAMP) ## Style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test ## What continuous integration runs.

bench: $(STAMP) ## Speed and memory against the official package (half an hour; installs it apart).
	$(BIN)/python benchmarks/against_official.py --update docs/performance.md

mini: $(STAMP) ## Fit the embedded model again from the sample of HPD v2, and compare.
	PATH="$(abspath $(BIN)):$$PATH" runs/mini/run.sh

picture: $(STAMP) ## Draw the picture in the README again.
	$(BIN)/python runs/picture.py docs/images/score.svg

clean: ## Remove everything that make has made.
	rm -rf $(VENV) .bench build dist demo .mypy_cache .pytest_cache .ruff_cache .hypothesis
