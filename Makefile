# make help           what there is
# make demo           from nothing to an implant: own environment, no compiler needed
# make test           own environment with MinkowskiEngine (built once, some minutes, then cached), all tests

PYTHON ?= python3
VENV ?= .venv
DEMO_VENV ?= .venv-demo
DEMO_OUTPUT ?= demo_output
BUNDLE ?= bundles/skull_completion
# One thread each: MinkowskiEngine is repeatable only so, and two test processes fill two cores.
TEST_ENVIRONMENT = OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MONAI_SPARSE_REQUIRE_MINKOWSKI=1
TEST_JOBS ?= 2
PYTEST_ARGS ?=

PIP = python -m pip --disable-pip-version-check

.PHONY: help setup demo test check bench bench-skulls bench-super-resolution bench-thorax bench-paper bench-paper-accuracy \
	bench-training clean

help:
	@echo "make setup   $(VENV): the package, what its tests need, MinkowskiEngine"
	@echo "make demo    $(DEMO_VENV): the package alone; completes a skull and leaves the implant in $(DEMO_OUTPUT)"
	@echo "make test    the tests, in $(VENV); PYTEST_ARGS='-k union' for some of them"
	@echo "make check   style and types, in $(VENV)"
	@echo "make bench   speed and memory of the engines, in $(VENV); BENCH_ARGS='--volumes 128,128,128 mask.nii.gz'"
	@echo "make bench-skulls  accuracy on phantoms and, with PATIENTS=folder and SCANS=folder, on real skulls"
	@echo "make bench-paper   memory and time of sparse networks against dense ones: skulls of 64 to 512 in-plane, 2D outlines"
	@echo "make bench-paper-accuracy  trains the paper's networks shortly and scores them at every resolution,"
	@echo "             with PATIENTS=folder (CT skulls), BRAINS=folder (MRI-like skulls) or both"
	@echo "make bench-training  short trainings of skull completion that differ in one part each; FINE=folder of fine skulls"
	@echo "make bench-super-resolution  accuracy of super-resolution on phantoms and, as above, on real skulls"
	@echo "make bench-thorax  accuracy of refined thoracic organs; MASKS=folder of organ masks, and REAL=folder of real CTs"
	@echo "make clean   removes both environments and what the demo wrote"

setup: $(VENV)/.minkowski

# $(call environment,FOLDER,PACKAGE) makes a virtual environment with the package, in the tested versions.
define environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "$(PYTHON) is older than Python 3.10: make PYTHON=python3.11 ..." >&2; exit 1; }
	@echo "Installing into $(1), torch first (some minutes)"
	$(PYTHON) -m venv $(1)
	$(1)/bin/$(PIP) install --quiet torch==2.13.0 -c constraints.txt
	$(1)/bin/$(PIP) install --quiet --editable "$(2)" -c constraints.txt
	@touch $(1)/.installed
endef

$(VENV)/.installed: pyproject.toml constraints.txt
	$(call environment,$(VENV),.[dev])

$(DEMO_VENV)/.installed: pyproject.toml constraints.txt
	$(call environment,$(DEMO_VENV),.)

# The tests compare the engines on the CPU, so that a CPU build is all they need.
$(VENV)/.minkowski: $(VENV)/.installed
	PIP_CONSTRAINT=constraints.txt $(VENV)/bin/python -m monai_sparse_refine.engine.install --cpu-only
	@touch $@

demo: $(DEMO_VENV)/.installed
	$(DEMO_VENV)/bin/python -m monai_sparse_refine.data.phantom --seed 7 --spacing 1.0 --defect bilateral \
		--output-dir $(DEMO_OUTPUT)/input
	$(DEMO_VENV)/bin/python -m monai.bundle run --config_file $(BUNDLE)/configs/inference.json \
		--bundle_root $(BUNDLE) --dataset_dir $(DEMO_OUTPUT)/input/defective.nii.gz \
		--truth_dir $(DEMO_OUTPUT)/input/truth/complete.nii.gz --output_dir $(DEMO_OUTPUT)/result --engine native

test: $(VENV)/.minkowski
	$(TEST_ENVIRONMENT) $(VENV)/bin/python -m pytest -n $(TEST_JOBS) $(PYTEST_ARGS)

check: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(VENV)/.minkowski
	$(VENV)/bin/python -m benchmarks.engine_speed $(BENCH_ARGS)

bench-skulls: $(VENV)/.installed
	$(VENV)/bin/python -W ignore -m benchmarks.skull_accuracy --phantoms 8 \
		$(if $(PATIENTS),--patients $(PATIENTS)) $(if $(SCANS),--scans $(SCANS)) $(BENCH_ARGS)

bench-training: $(VENV)/.installed
	$(VENV)/bin/python -W ignore -m benchmarks.training_ablation \
		$(if $(PATIENTS),--patients $(PATIENTS)) $(if $(FINE),--fine $(FINE)) --validation-phantoms 2 $(BENCH_ARGS)

bench-super-resolution: $(VENV)/.installed
	$(VENV)/bin/python -W ignore -m benchmarks.super_resolution_accuracy --phantoms 2 --rules --completed \
		$(if $(PATIENTS),--patients $(PATIENTS)) $(if $(SCANS),--scans $(SCANS)) $(BENCH_ARGS)

bench-thorax: $(VENV)/.installed
	$(VENV)/bin/python -W ignore -m benchmarks.thoracic_accuracy --masks $(MASKS) $(if $(REAL),--real $(REAL)) $(BENCH_ARGS)

bench-paper: $(VENV)/.installed
	$(VENV)/bin/python -W ignore -m benchmarks.paper_tables $(BENCH_ARGS)

bench-paper-accuracy: $(VENV)/.installed
	$(VENV)/bin/python -W ignore -m benchmarks.paper_accuracy \
		$(if $(PATIENTS),--patients $(PATIENTS)) $(if $(BRAINS),--brains $(BRAINS)) --bundle $(BUNDLE) $(BENCH_ARGS)

clean:
	rm -rf $(VENV) $(DEMO_VENV) $(DEMO_OUTPUT)
