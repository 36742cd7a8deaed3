# The two commands of a newcomer are `make demo` and `make test`; both make their own environment.
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint check figures gpu-check clean

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

# One worker a core; the tests of a file share what they make, so they stay together.
test: $(READY)
	$(BIN)/python -m pytest -q -n auto --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

# A baseline and an invariance network on handwritten digits, analysed together: minutes on two cores. Such a short run
# takes a higher learning rate and a larger share of the objective than the published one to show its effect.
DEMO_RUNS ?= runs/demo
DEMO_OPTIONS ?= --epochs 30 --width 0.25 --learning-rate 0.05
DEMO_ALPHA ?= 0.3

demo: $(READY)
	rm -rf $(DEMO_RUNS)
	$(BIN)/dainv train --data digits --batch-norm $(DEMO_OPTIONS) --alpha 0 --run-dir $(DEMO_RUNS)/baseline
	$(BIN)/dainv train --data digits --batch-norm $(DEMO_OPTIONS) --alpha $(DEMO_ALPHA) --fused --run-dir $(DEMO_RUNS)/invariance
	$(BIN)/dainv analyze $(DEMO_RUNS)/baseline $(DEMO_RUNS)/invariance

# The paper's table and figures: both arms by the published recipe, with verdicts. The same command goes on where it
# was. Days without a GPU: FIGURE_OPTIONS='--budget 10 --batch-norm' scales it down.
FIGURE_RUNS ?= runs/paper
FIGURE_OPTIONS ?= --seeds 1

figures: $(READY)
	$(BIN)/dainv reproduce $(FIGURE_RUNS) $(foreach file,$(wildcard benchmarks/results/overhead--*.json),--overhead $(file)) $(FIGURE_OPTIONS)

# All that only a GPU can show, in under eight minutes; without one it says what was not run. Where nothing can be
# installed: PYTHONPATH=.:kernels:benchmarks python3 -m dainv_bench gpu-check --out DIR
GPU_CHECK ?= runs/gpu-check

gpu-check: $(READY)
	$(BIN)/dainv-bench gpu-check --out $(GPU_CHECK)

clean:
	rm -rf $(VENV) runs/demo
