# Thin: the work is done by cmake, ctest, pytest and scripts/. Each step prints its time and leaves its output in build/log.
JOBS ?= $(shell nproc)
STEP = scripts/step
PYTHON_PACKAGE = -DTESSERA_PYTHON=ON -DPython_EXECUTABLE=$(CURDIR)/.venv/bin/python
WORKERS = -n 2 --dist loadfile  # a worker may hold a model of Hugging Face's, which computes on two threads
PYTEST = .venv/bin/python -m pytest tests/python $(WORKERS) --basetemp=build/pytest
N150_PYTEST = .venv-n150/bin/python -m pytest tests/n150 $(WORKERS) --basetemp=build/pytest-n150

.PHONY: build demo test n150 check bench lint clean

build:
	cmake --preset release
	cmake --build --preset release -j $(JOBS)

# Makes Gemma 3 270M's checkpoint and streams a text with it.
demo:
	scripts/setup demo
	cmake --preset release
	cmake --build --preset release -j $(JOBS) --target tessera
	scripts/demo

# What must hold before every merge.
test:
	$(STEP) setup scripts/setup test
	$(STEP) configure cmake --preset release $(PYTHON_PACKAGE)
	$(STEP) build cmake --build --preset release -j $(JOBS)
	$(STEP) ctest ctest --preset release -j $(JOBS)
	$(STEP) pytest $(PYTEST) -m "not slow"
	$(MAKE) n150

# The n150's device: against TTNN itself on a mock card, which checks and allocates as a real one and runs nothing, and computed in NumPy.
n150:
	$(STEP) setup scripts/setup test
	$(STEP) setup-n150 scripts/setup n150
	$(STEP) n150-configure cmake --preset n150
	$(STEP) n150-build cmake --build --preset n150 -j $(JOBS)
	$(STEP) n150-pytest $(N150_PYTEST) -m "not slow"

# What takes longer: AVX-512's kernels where the machine has none, sanitizers, with no suppressions, fuzzers, and the slow part of the
# Hugging Face parity.
check:
	$(STEP) setup-check scripts/setup check
	$(STEP) emulated-configure cmake --preset emulated
	$(STEP) emulated-build cmake --build --preset emulated -j $(JOBS)
	$(STEP) emulated-ctest ctest --preset emulated -j $(JOBS)
	for sanitizer in asan tsan; do \
	  $(STEP) $$sanitizer-configure cmake --preset $$sanitizer && \
	  $(STEP) $$sanitizer-build cmake --build --preset $$sanitizer -j $(JOBS) && \
	  $(STEP) $$sanitizer-ctest ctest --preset $$sanitizer -j $(JOBS) || exit 1; \
	done
	$(STEP) fuzz scripts/fuzz 60
	$(STEP) slow-parity $(PYTEST) -m slow
	$(STEP) n150-build cmake --build --preset n150 -j $(JOBS)
	$(STEP) n150-slow $(N150_PYTEST) -m slow

# Speed beside other engines: hours, on a machine that does nothing else; scripts/bench_peers.py --rows measures a part.
bench:
	scripts/setup bench
	cmake --preset release
	cmake --build --preset release -j $(JOBS) --target tessera benches
	.venv/bin/python scripts/bench_peers.py

lint:
	scripts/setup check
	git ls-files '*.cpp' '*.h' | xargs clang-format-19 --dry-run --Werror

clean:
	rm -rf build
