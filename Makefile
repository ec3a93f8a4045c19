# Environments are made in VENV by two stamps: what pre-training needs, and everything. There is one
# environment for each of the two distributions of OpenMMLab's packages, with pins of its own.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
STACK ?= onedl
ifeq ($(STACK),onedl)
VENV ?= .venv
PINS := requirements/constraints.txt
BASE := onedl
EXTRAS := onedl,onedl-det,onedl-seg,onedl-pretrain,tests
MMCV := onedl-mmcv
else
VENV ?= .venv-openmmlab
PINS := requirements/constraints-openmmlab.txt
BASE := openmmlab,tests
EXTRAS := openmmlab,openmmlab-det,openmmlab-seg,openmmlab-pretrain,tests
MMCV := mmcv
endif
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
CONSTRAINTS := -c $(PINS)
KEY := $(shell cat $(PINS) setup.py | sha256sum | cut -c1-12)
BASE_STAMP := $(VENV)/.base-$(KEY)
FULL_STAMP := $(VENV)/.full-$(KEY)
DOCS_STAMP := $(VENV)/.docs-$(shell sha256sum requirements/docs.txt | cut -c1-12)
LINT_STAMP := $(VENV)/.lint-$(shell sha256sum requirements/lint.txt | cut -c1-12)
# A torch newer than 2.10 refuses mmcv's C++17, pip's build isolation would hide torch from mmcv's
# build (it then goes without ops, silently), and -O1 -g0 halves the time of compiling.
MMCV_BUILD := CFLAGS="-O1 -g0" MMCV_WITH_OPS=1 MAX_JOBS=$(shell nproc)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

DEMO := work_dirs/plrc_demo
demo: venv-demo  ## pre-train on generated scenes, without any data (10 minutes on two cores)
	$(BIN)/python tools/make_scenes.py data/scenes
	$(BIN)/mim train plrc_plugin configs/plrc_demo.py --resume
	$(BIN)/python tools/affinity_maps.py $(DEMO) --data scenes --size 448 --labels before after \
	  --out $(DEMO)/affinity.png
	$(BIN)/python tools/probe.py $(DEMO)
	$(BIN)/python tools/report.py $(DEMO)
	$(BIN)/python tools/explorer.py $(DEMO) data/scenes/val --labels before after \
	  --out $(DEMO)/explorer.html
	@echo
	@echo 'made in $(DEMO): checkpoints, report.html (what happened), explorer.html (ask'
	@echo '  any place of any scene), affinity.png, probes.json'
	@echo 'next:'
	@echo '  open $(DEMO)/report.html and $(DEMO)/explorer.html in a browser'
	@echo '  $(BIN)/python -m plrc_plugin pretrain PHOTOS --out work_dirs/mine   # your own photographs'
	@echo '  make demo-transfer                                # a detector and a segmenter from the demo'

DEMO_TRANSFER := work_dirs/demo_transfer
demo-transfer: venv-full  ## fine-tune a detector and a segmenter on generated scenes (20 minutes)
	$(BIN)/python tools/make_scenes.py data/scenes
	$(BIN)/python tools/train.py configs/plrc_demo.py --resume
	$(BIN)/python tools/transfer_table.py --work-dir $(DEMO_TRANSFER) --jobs 2 \
	  --checkpoints scratch plrc=$$(cat work_dirs/plrc_demo/last_checkpoint) \
	  --configs configs/mmdet/faster-rcnn_r18-c4_demo_scenes.py configs/mmseg/fcn_r18_demo_scenes.py
	@echo 'table and pictures: $(DEMO_TRANSFER)/table.md, bars: $(DEMO_TRANSFER)/table.png'

lint: $(LINT_STAMP)  ## ruff and mypy, as .ci/run, pre-commit and GitHub run them
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --cache-dir $(VENV)/.mypy_cache

docs: $(DOCS_STAMP)  ## the site, in docs/_build
	$(BIN)/python -m sphinx -W --keep-going -q docs docs/_build

# The files of tests are shared out to two processes, of one thread each.
JOBS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile
test: venv-full  ## run the tests with everything installed (a quarter of an hour on two cores)
	$(PYTEST) -m 'not long'

test-long: venv-full  ## those that take long and guard little more (5 minutes)
	$(PYTEST) -m long

OPENMMLAB := $(MAKE) --no-print-directory STACK=openmmlab
test-openmmlab:  ## the same with OpenMMLab's own last releases and torch 2.1
	$(OPENMMLAB) test

# What that torch and mmengine are known to do in their own way; it needs no compiled mmcv.
test-openmmlab-quick:  ## of that, what needs no compiled mmcv (3 minutes)
	$(OPENMMLAB) venv-demo test-quick

test-quick:
	$(PYTEST) -m stack

test-faults: venv-full  ## kill and resume training 40 times, restart under torchrun, compile (10 minutes)
	PLRC_FAULTS=40 $(BIN)/python -m pytest tests/test_reliability

# make bench PHOTOS=<folder> measures on photographs instead of generated scenes.
bench: venv-demo  ## speed and memory beside MoCo v2 and lightly; writes docs/benchmarks (40 minutes)
	for name in step loss_memory loader startup peers sources rasters scale growth; do \
	  OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python benchmarks/$$name.py \
	    $(if $(PHOTOS),--photos $(PHOTOS)) || exit 1; done

# GPU_ARGS="--photos photographs.tar --voc voc.tar" trains on photographs. An environment of ours is
# not made here: the machine may have no network, and its own PyTorch is the one that fits its GPU.
gpu-check:  ## check and measure on a GPU, ten minutes a call; writes docs/gpu.md
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m benchmarks.gpu $(GPU_ARGS)

GPU_PYTHON ?= 3.12
gpu-wheels:  ## collect what gpu-check needs for a machine without a network, in gpu-wheels/
	$(PYTHON) -m benchmarks.gpu.wheels --python $(GPU_PYTHON) $(WHEELS)

check-install: venv-full  ## wheel and editable install, each with onedl-mim and openmim
	tools/check_install.sh $(BIN)/python

venv-demo: $(BASE_STAMP)  ## the environment of pre-training (no compiled mmcv)
	@$(call editable,$(BASE))

venv-full: $(FULL_STAMP)  ## the environment with mmcv's ops, mmdet and mmseg
	@$(call editable,$(EXTRAS))

venv-openmmlab:  ## the same for OpenMMLab's own packages, in .venv-openmmlab
	$(OPENMMLAB) venv-full

# Points the environment at this checkout: a cached one may know another. The dependencies are there.
editable = $(PIP) install -q --no-build-isolation --no-deps -e '.[$(1)]'

# Compiling only what gets imported (--no-compile) saves a minute.
$(BASE_STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 9))' || \
	  { echo 'error: PYTHON ($(PYTHON)) must be Python 3.9 or newer, tested with 3.11'; exit 1; }
	$(PYTHON) -m venv --clear $(VENV) || { echo 'error: $(PYTHON) cannot make virtual' \
	  'environments; on Debian: apt install python3-venv python3-dev'; exit 1; }
	$(PIP) install $(CONSTRAINTS) setuptools wheel ninja psutil
	$(PIP) install $(CONSTRAINTS) --no-build-isolation --no-compile -e '.[$(BASE)]'
	@touch $@

# pip may hold an mmcv wheel without ops, or for another torch: then it is built once more.
# mmcv and mmdet bring opencv-python, which needs libGL; the headless one, laid over it, does not.
$(FULL_STAMP): $(BASE_STAMP)
	@echo 'Compiling mmcv, unless pip has its wheel: about 10 minutes on two cores'
	$(MMCV_BUILD) $(PIP) install $(CONSTRAINTS) --no-build-isolation -e '.[$(EXTRAS)]'
	$(PIP) install $(CONSTRAINTS) --no-deps --force-reinstall opencv-python-headless
	$(BIN)/python -c 'import mmcv._ext' || $(MMCV_BUILD) $(PIP) install $(CONSTRAINTS) \
	  --no-build-isolation --no-deps --no-cache-dir --force-reinstall $(MMCV)
	$(BIN)/python -c 'import mmcv._ext'
	@touch $@

# A stamp of its own: another ruff compiles no mmcv anew.
$(LINT_STAMP): | $(BASE_STAMP)
	$(PIP) install -q $(CONSTRAINTS) -r requirements/lint.txt
	@touch $@

$(DOCS_STAMP): | $(BASE_STAMP)
	$(PIP) install -q -r requirements/docs.txt
	@touch $@

print-key:
	@echo $(KEY)

clean:  ## remove what building, testing and training left (not data/)
	rm -rf .venv .venv-openmmlab build dist work_dirs *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help docs lint bench gpu-check gpu-wheels test-faults demo demo-transfer test test-openmmlab test-openmmlab-quick test-quick check-install venv-demo venv-full venv-openmmlab print-key clean
