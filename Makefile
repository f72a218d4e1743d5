# Everything from a bare clone: `make demo` and `make test` also make the virtual environment.
PYTHON ?= python3
VENV ?= .venv
CONFIG ?= configs/retinanet_fvnet_s_coco.py

.PHONY: install demo test lint pages clean

install: $(VENV)/.installed

$(VENV)/.installed: setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -c constraints.txt -e '.[test]'
	touch $@

demo: install
	$(VENV)/bin/python tools/train.py $(CONFIG) --demo --work-dir work_dirs/demo

test: install lint
	$(VENV)/bin/python -m pytest -n auto --dist worksteal

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# The parts of README.md and docs/ that are made from code and records: some minutes.
pages: install
	for script in ablation backbones comparison complexity diagrams speed speedups step_bytes step_speed \
	    training_memory variants; do $(VENV)/bin/python docs/$$script.py || exit; done
	$(VENV)/bin/python docs/shapes.py scores

clean:
	rm -rf $(VENV) work_dirs/demo
