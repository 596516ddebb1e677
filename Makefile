# Two commands matter: `make demo` and `make test`. Both set up everything they need in .venv first.
PYTHON ?= python3
BIN := .venv/bin
DIGITS := demo/haversack/demo/digits
BUILD := build
PYTEST := OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q
# Fast tests run in two processes, a file at a time. Slow ones do not: some count this machine's browsers, and one
# process holds one Playwright.
TWO := -n 2 --dist loadfile

.PHONY: demo test fast lint docs lock vendor benchmark conformance quickstart shipped clean help

help:  ## What there is to make.
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 12

# One virtual environment, filled in two steps: what the demo needs, then what the tests need beside it.
$(BIN)/uv:
	$(PYTHON) -c 'import sys; sys.exit("Haversack needs Python 3.11 or newer, found " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

.venv/demo.stamp: pyproject.toml constraints.txt | $(BIN)/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraints constraints.txt --editable '.[demo,search]'
	@touch $@

.venv/test.stamp: .venv/demo.stamp constraints-torch.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraints constraints.txt --editable '.[demo,search,tensorflow,dev]'
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt \
	  --constraint constraints-torch.txt torch onnxscript
	@touch $@

# Browser tests drive Debian's Chromium; where it may not be installed they are skipped, with that reason.
.PHONY: chromium
chromium:
	@command -v chromium >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -y -qq chromium >/dev/null; \
	  else echo "no chromium and no right to install it: the browser tests will be skipped"; fi; } \
	  || echo "chromium could not be installed: the browser tests will be skipped"

vendor: .venv/demo.stamp  ## Fetch the files that run models in a browser, with npm; without it one line says so.
	@$(BIN)/python -m haversack.convert.targets.web.vendor --if-possible

quickstart: .venv/demo.stamp vendor  ## Search the digits model for each target within a point and print the table.
	@mkdir -p $(BUILD)
	$(BIN)/haversack pack $(DIGITS)/digits.onnx --to tflite,coreml,onnx \
	  --max-drop 1.0 \
	  --calibration $(DIGITS)/calibration.npz --evaluation $(DIGITS)/evaluation.npz \
	  --training-data "scikit-learn handwritten digits, 1257 training images" \
	  --force -o $(BUILD)/digits.haversack

shipped: quickstart  ## Renew the bundle that the wheel ships for `haversack demo`.
	cp $(BUILD)/digits.haversack $(DIGITS)/digits.haversack

demo: quickstart  ## Pack the digits model within a point, print the table, open the dashboard on it.
	$(BIN)/haversack demo $(BUILD)/digits.haversack

lint: .venv/test.stamp  ## Style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fast: .venv/test.stamp  ## The tests that take seconds.
	$(PYTEST) $(TWO) -m "not slow"

test: .venv/test.stamp chromium vendor lint  ## Everything that CI runs: style, types, fast tests, then slow ones.
	$(PYTEST) $(TWO) -m "not slow"
	$(PYTEST) -m slow

docs: .venv/test.stamp  ## Write the generated pages: operators and command-line help.
	$(BIN)/python docs/generate.py

benchmark: .venv/test.stamp  ## KWS and ResNet8 beside the peers, in one run.
	$(BIN)/python -m benchmarks.mlperf_tiny

conformance: .venv/test.stamp  ## ONNX's backend tests through the TFLite target and LiteRT.
	$(BIN)/python -m benchmarks.tflite_conformance

lock: $(BIN)/uv  ## Choose versions anew; writes versions only.
	$(BIN)/uv pip compile pyproject.toml --extra demo --extra search --extra tensorflow --extra dev --universal --python-version 3.11 --upgrade --quiet \
	  --no-header --no-annotate --no-emit-index-url -o constraints.txt

clean:  ## Remove what make made, the environment included.
	rm -rf .venv $(BUILD) dist
