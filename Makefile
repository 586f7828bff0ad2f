# Run from the root of the checkout. README.md says what plain commands these are.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
NOTEBOOKS := $(wildcard notebooks/[0-9]*.ipynb)
# Two test processes, a file at a time; two networks at once are trained on a thread each.
WORKERS := --numprocesses=2 --dist=loadfile
# Errors alone are told: every kernel warns that it is not encrypted, though it is only spoken to on this computer.
EXECUTE := $(BIN)/jupyter nbconvert --to notebook --execute --ExecutePreprocessor.timeout=-1 --log-level=ERROR \
	--ExecutePreprocessor.extra_arguments=--IPKernelApp.log_level=ERROR

.PHONY: help install notebooks test lab app phone slides facts figures lint lock clean

help:
	@echo "make notebooks  set up, run the notebooks top to bottom, keep the executed copies in build/notebooks"
	@echo "make test       set up, run every test and every notebook in the smoke profile"
	@echo "make lab        open the notebooks in JupyterLab"
	@echo "make app        open the demo as a web page, on this computer only"
	@echo "make phone      put the small network into a page that needs no server: build/phone"
	@echo "make slides     write the talk to build/slides: PowerPoint and HTML"
	@echo "make facts      write the numbers of data/results into README, model cards and data/README.md"
	@echo "make figures    rewrite the notebooks' saved outputs and figures/ from RAVDESS"
	@echo "make lint       check style"
	@echo "make lock       write requirements.txt anew (maintainers; needs uv)"

install: $(INSTALLED)

$(INSTALLED): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; say which: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

notebooks: $(INSTALLED)
	@for notebook in $(NOTEBOOKS); do \
		printf '%s … ' $$notebook; start=$$(date +%s); \
		SERCORE_FIGURES=build/figures $(EXECUTE) --output-dir build/notebooks $$notebook || exit 1; \
		echo "$$(($$(date +%s) - start)) s"; \
	done
	@echo "Done. Open build/notebooks/ (executed copies) and build/figures/; the committed notebooks are as they were."

test: $(INSTALLED)
	$(BIN)/python -m pytest $(WORKERS) tests
	SERCORE_PROFILE=smoke SERCORE_CACHE=build/test/cache SERCORE_RUNS=build/test/runs SERCORE_FIGURES=build/test/figures \
		OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(WORKERS) --nbval-lax --nbval-cell-timeout=600 -p no:cacheprovider $(NOTEBOOKS)

lab: $(INSTALLED)
	$(BIN)/jupyter lab --config notebooks/jupyter_server_config.py notebooks

app: $(INSTALLED)
	$(BIN)/python notebooks/app/serve.py --Voila.open_browser=True $(OPTIONS)

# Three files of onnxruntime-web (MIT, 14 MB) and the network, beside a page that needs no server of ours.
PHONE := build/phone
ORT := https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-1.30.0.tgz
phone: $(INSTALLED)
	mkdir -p $(PHONE)
	$(BIN)/sercore export $(PHONE)/small.onnx --checkpoint small
	curl -fsSL $(ORT) | tar -xz -C $(PHONE) --strip-components=2 package/dist/ort.wasm.min.mjs \
		package/dist/ort-wasm-simd-threaded.mjs package/dist/ort-wasm-simd-threaded.wasm
	cp notebooks/app/phone.html $(PHONE)/index.html
	@echo "Serve $(PHONE)/ by any web server, for example: $(BIN)/python -m http.server --directory $(PHONE) 8000"

# axe-core (MPL-2.0), by which a browser test looks for what a screen reader or a keyboard cannot use.
browser-tools: phone
	mkdir -p build/axe
	curl -fsSL https://registry.npmjs.org/axe-core/-/axe-core-4.10.3.tgz | tar -xz -C build/axe --strip-components=1 package/axe.min.js

slides: $(INSTALLED)
	$(BIN)/python notebooks/slides/make_slides.py

facts: $(INSTALLED)
	$(BIN)/python notebooks/slides/facts.py

figures: $(INSTALLED)
	SERCORE_PROFILE=full SERCORE_FIGURES=figures $(EXECUTE) --inplace $(NOTEBOOKS)
	$(BIN)/python notebooks/slides/clean_outputs.py $(NOTEBOOKS)
	$(BIN)/python notebooks/slides/make_slides.py --contact-sheet

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lock:
	uv pip compile --quiet --universal --python-version 3.11 --extra notebooks --extra dev --no-annotate --no-header pyproject.toml --output-file build/requirements.all
	(echo "# Written by 'make lock' from pyproject.toml: every package of a whole installation."; \
	grep -viE '^(nvidia-|cuda-|triton)' build/requirements.all) > requirements.txt

clean:
	rm -rf build
