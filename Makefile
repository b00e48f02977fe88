# Two commands do everything, set-up included: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
FRAMEWORKS := .venv-frameworks
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-all conformance lint docs clean

demo: $(READY)  ## Train a teacher, distil, measure: the result and its report.
	OMP_NUM_THREADS=2 $(BIN)/limbeck compare recipes/digits.yaml --out runs/demo

test: $(READY)  ## Everything fast.
	$(BIN)/python -m pytest -m "not slow" -n 2

test-all: $(READY) $(FRAMEWORKS)/.ready  ## The slow tests too, with the frameworks that they need.
	LIMBECK_FRAMEWORKS_PYTHON=$(FRAMEWORKS)/bin/python $(BIN)/python -m pytest

conformance: $(READY) $(FRAMEWORKS)/.ready  ## How far the losses are from float64 on each backend.
	for backend in torch torch.compile jax tensorflow numpy; do \
	  PYTHONPATH=. $(FRAMEWORKS)/bin/python tests/losses/conformance.py $$backend \
	    benchmarks/results/conformance.json || exit 1; \
	done

lint: $(READY)  ## Format, lint, types, import rules.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyrefly check
	$(BIN)/lint-imports

docs: $(READY)
	$(BIN)/pip install -q -e '.[docs]'
	$(BIN)/sphinx-build -W -b html docs docs/_build/html

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip
	$(BIN)/pip install -q -e '.[dev]'
	touch $@

$(FRAMEWORKS)/.ready: $(READY)
	$(PYTHON) -m venv $(FRAMEWORKS)
	$(FRAMEWORKS)/bin/pip install -q -e '.[vision,digits,onnx,openvino,sklearn,xgboost,frameworks,jax,tensorflow,remote]' hypothesis 'moto[server]' s3fs
	touch $@

clean:
	rm -rf $(VENV) $(FRAMEWORKS) runs docs/_build docs/generated
