# Two commands do everything: `make figs` and `make test`. Each sets up .venv first where that is needed.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help demo figs docs test theory ledger thorough proofs bench mutants torture lint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Renewed whenever the dependencies change; the stamp is written last, so an interrupted install starts again.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12 ...")'
	@echo "==> setting up .venv (a minute or two, the first time)"
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench,test]'
	@# A package that nothing here uses brings torchvision; built for another torch it takes diffusers down with it
	@$(BIN)/python -c 'import torchvision' 2>/dev/null || $(BIN)/python -m pip uninstall --quiet --yes torchvision
	@touch $@

demo: $(STAMP) ## train and measure the nine rows on real Fashion-MNIST, at their smallest (minutes), in runs/demo
	@echo "==> three short runs and their nine rows: about five minutes on two idle cores; stopped, it goes on"
	@$(BIN)/python -m experiments reproduce --config fashion-mnist-tiny --steps 300 --global-batch 16 --evaluation demo --out runs/demo

figs: $(STAMP) ## every figure, with its data, in paper_figs/out/; RUNS=path: with the runs in that folder
	@echo "==> drawing the figures"
	@$(BIN)/python -m paper_figs $(if $(RUNS),--runs "$(RUNS)")

docs: $(STAMP) ## the site, in docs/_build/html; needs no network
	@echo "==> building the site"
	@$(BIN)/python -m sphinx -q -E -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

test: $(STAMP) ## all tests
	@echo "==> running all tests"
	@$(BIN)/python -m pytest

theory: $(STAMP) ## check every claim of the theory (pytest theory)
	@echo "==> checking the theory"
	@$(BIN)/python -m pytest theory

ledger: $(STAMP) ## check every claim, print the table of verdicts, renew theory/README.md
	@$(BIN)/python -m theory --write

thorough: $(STAMP) ## the theory with 10,000 examples a property (about an hour)
	@echo "==> checking the theory with 10,000 examples a property"
	@$(BIN)/python -m pytest theory --hypothesis-profile=thorough

proofs: ## check the proofs for every d and m with Coq; says which Debian packages are missing
	@echo "==> checking the proofs with Coq: 40 seconds of processor time"
	@$(PYTHON) proofs/check.py

bench: $(STAMP) ## speed and memory, side by side with peers
	@$(BIN)/python -m benchmarks

mutants: $(STAMP) ## change the instruments in one place at a time: do the tests notice? (hours; goes on; GROUPS="curvature ..." SAMPLE=40)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[mutants]'
	@nice -n 15 $(BIN)/python -m tests.hardening.mutants $(if $(SAMPLE),--sample $(SAMPLE)) $(GROUPS)

torture: $(STAMP) ## kill every command at random moments and damage its files (hours; KILLS=50 DAMAGES=50)
	@$(BIN)/python -m tests.hardening.torture --kills $(or $(KILLS),50) --damages $(or $(DAMAGES),50)

lint: $(STAMP) ## ruff and mypy
	@echo "==> linting and type checking"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

clean: ## remove what the targets made, .venv included
	rm -rf .venv .hypothesis .pytest_cache .ruff_cache .mypy_cache paper_figs/out docs/_build docs/theory/claims runs/demo build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
