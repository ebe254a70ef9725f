# Thin: the work is done by cmake, ctest, pytest and scripts/. Each step prints its time and leaves its output in build/log.
JOBS ?= $(shell nproc)
STEP = scripts/step
PYTHON_PACKAGE = -DTESSERA_PYTHON=ON -DPython_EXECUTABLE=$(CURDIR)/.venv/bin/python
WORKERS = -n 2 --dist loadfile  # a worker may hold a model of Hugging Face's
PYTEST = .venv/bin/python -m pytest $(WORKERS) --no-loadscope-reorder --basetemp=build/pytest
N150_PYTEST = .venv-n150/bin/python -m pytest $(WORKERS) --basetemp=build/pytest-n150

.PHONY: build demo test n150 sim check ci-check whole-matrix bench lint clean

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
	$(STEP) pytest $(PYTEST) tests/python -m "not slow"
	$(MAKE) n150

# The n150's device: against TTNN itself on a mock card, which checks and allocates as a real one and runs nothing, and computed in NumPy.
n150:
	$(STEP) setup scripts/setup test
	$(STEP) setup-n150 scripts/setup n150
	$(STEP) n150-configure cmake --preset n150
	$(STEP) n150-build cmake --build --preset n150 -j $(JOBS)
	$(STEP) n150-pytest $(N150_PYTEST) tests/n150 --ignore=tests/n150/sim -m "not slow"

# TTNN's own kernels on the simulated card that TT_METAL_SIMULATOR names: docs/simulated_card.md. Skips, and says so, where it names none.
sim:
	$(STEP) setup scripts/setup test
	$(STEP) setup-sim scripts/setup sim
	$(STEP) n150-configure cmake --preset n150
	$(STEP) n150-build cmake --build --preset n150 -j $(JOBS)
	$(STEP) sim $(N150_PYTEST) tests/n150/sim -m simulator

# What takes longer: AVX-512's kernels where the machine has none, sanitizers, with no suppressions, fuzzers, and the slow part of the
# Hugging Face parity. `ci-check` is its part in .ci/run: the thread sanitizer where there are threads, fuzzers for less time, and of the
# slow tests those that ci_slow.txt names.
check: TSAN = test_programs
check: FUZZ_SECONDS = 60
check: SLOW = tests/python -m slow
check: N150_SLOW = tests/n150 --ignore=tests/n150/sim -m slow
check: KERNELS = "not simulator"
ci-check: KERNELS = "not simulator and not slow"
ci-check: TSAN = threaded_programs
ci-check: TSAN_TESTS = -L threads
ci-check: FUZZ_SECONDS = 20
ci-check: SLOW = @tests/python/ci_slow.txt
ci-check: N150_SLOW = @tests/n150/ci_slow.txt

check: whole-matrix

# Many requests at once, under every setting, and 10,000 connections: minutes.
whole-matrix:
	$(STEP) configure cmake --preset release $(PYTHON_PACKAGE)
	$(STEP) build cmake --build --preset release -j $(JOBS) --target scheduler_load_test http_test
	$(STEP) whole-matrix env TESSERA_WHOLE_MATRIX=1 ctest --preset release -R "^(tiny_checkpoints|scheduler_load_test|http_test)$$"

check ci-check:
	$(STEP) setup-check scripts/setup check
	$(STEP) benches cmake --build --preset release -j $(JOBS) --target benches
	$(STEP) emulated-configure cmake --preset emulated
	$(STEP) emulated-build cmake --build --preset emulated -j $(JOBS)
	$(STEP) emulated-ctest ctest --preset emulated -j $(JOBS)
	$(STEP) asan-configure cmake --preset asan
	$(STEP) asan-build cmake --build --preset asan -j $(JOBS)
	$(STEP) asan-ctest ctest --preset asan -j $(JOBS)
	$(STEP) tsan-configure cmake --preset tsan
	$(STEP) tsan-build cmake --build --preset tsan -j $(JOBS) --target $(TSAN)
	$(STEP) tsan-ctest ctest --preset tsan -j $(JOBS) $(TSAN_TESTS)
	$(STEP) fuzz-configure cmake --preset fuzz
	$(STEP) fuzz-build cmake --build --preset fuzz -j $(JOBS)
	$(STEP) fuzz scripts/fuzz $(FUZZ_SECONDS)
	$(STEP) slow-parity $(PYTEST) $(SLOW)
	$(STEP) n150-build cmake --build --preset n150 -j $(JOBS)
	$(STEP) n150-slow $(N150_PYTEST) $(N150_SLOW)
	$(STEP) setup-sim scripts/setup sim
	$(STEP) kernels $(N150_PYTEST) tests/n150/sim -m $(KERNELS)

# Speed beside other engines: hours, on a machine that does nothing else; scripts/bench_peers.py --rows measures a part.
bench:
	scripts/setup bench
	cmake --preset release
	cmake --build --preset release -j $(JOBS) --target tessera benches
	.venv/bin/python scripts/bench_peers.py
	.venv/bin/python scripts/bench_serving.py

# mypy reads the _core.pyi of make build's package; a file of models/ at a time, since all are called model.
lint:
	scripts/setup check
	git ls-files '*.cpp' '*.h' | xargs clang-format-19 --dry-run --Werror
	cmake --preset release $(PYTHON_PACKAGE)
	cmake --build --preset release -j $(JOBS) --target tessera_python
	.venv/bin/python -m mypy python/tessera eval.py scripts/*.py
	for file in models/*/*/*/functional/model.py; do .venv/bin/python -m mypy $$file || exit 1; done

clean:
	rm -rf build
