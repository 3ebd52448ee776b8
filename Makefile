# Every task of this project. `make run` and `make test` need nothing but make, and say what else is missing.
#
#   make run                    build, then a broker on localhost:9092 with its data in ./pylog-data (ARGS= goes to the broker)
#   make test                   what CI runs: everything below that checks; PYTEST_ARGS= goes to pytest
#   make build                  the virtual environment in .venv and the C extension in place
#   make test-c asan tsan       the C tests: plain, with address and undefined behaviour sanitizers, with thread sanitizer
#   make compiled               the coordinators compiled, as in a wheel, in build/compiled, and their tests
#   make tidy fault fuzz clients kill    one folder of tests/
#   make chaos                  a cluster under load, struck by faults at random: MINUTES=10 SEED=7 (root, for the cuts)
#   make sim                    simulated clusters from seeds: SEEDS=1000 FROM=1; the story of one: SEED=7
#   make differential           the same odd requests to ours and to Apache Kafka: SEED=7 SESSIONS=100 ORACLE=kafka4
#                               LIVES=groups, or offsets, transactions, consumers (of KIP-848; with ORACLE=kafka4)
#   make lint fmt fix           check; format; repair what a tool can
#   make bench bench-record     compare with Apache Kafka; the same, and keep the figures in bench/history
#   make bench-cluster          three brokers against three of Kafka's: BENCH_ARGS='--partitions 10000 --record'
#   make bench-coordination     groups, offsets and transactions beside Kafka's: BENCH_ARGS='--rows joins --record'
#   make bench-library          the library against LMDB, SQLite, RocksDB, LevelDB, ...: BENCH_ARGS='--rows read --record'
#   make wheel clean
#
# PYTHON=python3.12 chooses the interpreter the virtual environment is made of.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

ifndef PYTHON
PYTHON := $(or $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done),python3)
endif
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := build/.stamp
C_FILES := $(wildcard csrc/*.c csrc/*.h csrc/SOURCES csrc/ffi_build.py) pylog/_rows.c
CC ?= cc

.PHONY: run build test pytest test-c asan tsan compiled lint fmt fix tidy fuzz fault clients kill bench bench-micro bench-macro bench-cluster \
  bench-coordination \
  bench-library bench-record peers differential sim chaos wheel clean

run: build
	@exec $(BIN)/pylog server $(ARGS)

# ------------------------------------------------------------------------------------------------------------ build

build: $(STAMP)/ext

$(STAMP)/venv:
	@.ci/need run "$(PYTHON)"
	@mkdir -p $(STAMP)
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv $(VENV)
	@$(BIN)/pip install -q --disable-pip-version-check 'setuptools>=70' wheel 'cffi>=2'
	@touch $@

# The package is installed once (and when its metadata change), its extension rebuilt whenever a C file changed: setuptools does
# not know which header a file includes, hence --force. editable_mode=compat puts a plain path into a .pth file; the default, an
# import hook, would cost every start of the broker some milliseconds.
$(STAMP)/ext: $(C_FILES) pyproject.toml setup.py $(STAMP)/venv
	@echo 'building the C extension'
	@if [ $(STAMP)/package -nt pyproject.toml ] && [ $(STAMP)/package -nt setup.py ]; then \
	  $(BIN)/python -W ignore setup.py -q build_ext --inplace --force; \
	else \
	  rm -rf pylog/_*.so build/temp.*; \
	  $(BIN)/pip install -q --disable-pip-version-check --no-build-isolation --config-settings editable_mode=compat -e .; \
	  touch $(STAMP)/package; \
	fi
	@touch $@

# Only the extras' requirements: installing the package once more would compile it once more.
EXTRAS := import tomllib; \
  extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; \
  print("\n".join(extras["test"] + extras["clients"] + extras["lint"]))

$(STAMP)/test: pyproject.toml $(STAMP)/venv
	@.ci/need test "$(BIN)/python"
	@echo 'installing what the tests need'
	@$(BIN)/python -c '$(EXTRAS)' | $(BIN)/pip install -q --disable-pip-version-check -r /dev/stdin
	@touch $@

# ------------------------------------------------------------------------------------------------------------- test

# Most of what pytest runs waits for processes: three files at a time on two cores. PYTEST_ARGS='-n 0' runs one after another.
# In the order of their names: xdist would begin with the files of many tests, and end with the few that take minutes.
WORKERS ?= 3

# C first: when the storage engine is broken, what Python says about it is noise. pytest's summary is the last line.
test: build $(STAMP)/test
	$(MAKE) test-c
	$(MAKE) asan
	$(MAKE) tsan
	$(MAKE) compiled
	$(MAKE) pytest

pytest: build $(STAMP)/test $(STAMP)/load
	$(BIN)/pytest tests -rsfE -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# $(call ctest,DIRECTORY,CMAKE OPTIONS,CTEST OPTIONS,PREFIX)
define ctest
	cmake -S . -B build/$(1) -DCMAKE_BUILD_TYPE=RelWithDebInfo $(2) > build/$(1)-configure.log || { cat build/$(1)-configure.log; exit 1; }
	cmake --build build/$(1) -j $(JOBS)
	$(4) ctest --test-dir build/$(1) --output-on-failure -j $(JOBS) $(3)
endef

# Fuzzing wants a sanitizer: asan builds and runs the fuzz targets for a few seconds each, fuzz for FUZZ_SECONDS.
test-c: $(STAMP)/test
	$(call ctest,c,,,)

asan: $(STAMP)/test
	$(call ctest,asan,-DPLOG_SANITIZE=address,,)

# setarch -R: older thread sanitizers give up when the kernel spreads mappings over more bits than they expect.
tsan: $(STAMP)/test
	$(call ctest,tsan,-DPLOG_SANITIZE=thread,,setarch -R)

# The coordinators as wheels have them (setup.py), in a tree of their own, and the tests that drive them. What is compiled
# already is taken from where it is; mypyc's code is built anew when a coordinator changed.
AS_IN_A_WHEEL := PYLOG_MYPYC=1 PYTHONPATH=$(CURDIR)/build/compiled
COMPILED_TESTS := tests/unit/cluster/coordinator tests/transcripts tests/golden tests/sim tests/broker
$(STAMP)/compiled: $(STAMP)/ext $(STAMP)/test setup.py $(shell find pylog cluster -name '*.py')
	@echo 'compiling the coordinators (two minutes)'
	@mkdir -p build/compiled/pylog
	@cp -p pylog/_*.so build/compiled/pylog/
	@PYLOG_MYPYC=1 $(BIN)/python -W ignore setup.py -q build --build-lib build/compiled > build/compiled.log 2>&1 \
	  || { cat build/compiled.log; exit 1; }
	@touch $@

compiled: $(STAMP)/compiled
	$(AS_IN_A_WHEEL) $(BIN)/pytest $(COMPILED_TESTS) -rsfE -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

tidy: build $(STAMP)/test
	$(BIN)/pytest tests/tidy $(PYTEST_ARGS)

FUZZ_SECONDS ?= 30
fuzz: $(STAMP)/test
	$(call ctest,asan,-DPLOG_SANITIZE=address,-R '^none$$',) > /dev/null
	for target in tests/fuzz/fuzz_*.c; do name=$$(basename $$target .c); echo "$$name for $(FUZZ_SECONDS) s"; \
	  build/asan/tests/fuzz/$$name --seconds $(FUZZ_SECONDS) tests/fuzz/corpus/$${name#fuzz_}; done

# Every n-th call fails, is short, or is the last one before the power goes, in so many lives of logs of each kind. Twelve
# processes share them, each with some 12 s of CPU time for six lives.
FAULT_SCRIPTS ?= 6
fault: build $(STAMP)/test
	$(call ctest,asan,-DPLOG_SANITIZE=address,-R 'fault|power_cut',PLOG_FAULT_SCRIPTS=$(FAULT_SCRIPTS))
	$(BIN)/pytest tests/fault $(PYTEST_ARGS)

# A cluster on one thread with virtual time; about 0.15 s a seed.
SEEDS ?= 1000
FROM ?= 1
sim: build $(STAMP)/test
	PYTHONHASHSEED=0 $(BIN)/python -m tests.sim $(if $(SEED),--seed $(SEED),--from $(FROM) --seeds $(SEEDS) --jobs $(JOBS))

clients: build $(STAMP)/test
	$(BIN)/pytest tests/clients -rs $(PYTEST_ARGS)

kill: build $(STAMP)/test
	$(BIN)/pytest tests/kill $(PYTEST_ARGS)

# Real processes, real clients; a seed is printed when none is given. Brokers can be cut off from one another by root only.
MINUTES ?= 5
chaos: build $(STAMP)/test
	$(BIN)/python -m tests.clustered.chaos --minutes $(MINUTES) $(if $(filter file,$(origin SEED)),,--seed $(SEED))

# ------------------------------------------------------------------------------------------------------------- lint

PY_DIRS := pylog cluster tests bench setup.py csrc/ffi_build.py
C_SOURCES = $(shell git ls-files 'csrc/*.c' 'csrc/*.h' 'pylog/*.c' 'tests/**/*.c' 'tests/**/*.h' 'bench/**/*.c')

$(STAMP)/lint: $(STAMP)/test
	@.ci/need lint "$(BIN)/python"
	@touch $@

lint: build $(STAMP)/lint
	$(BIN)/ruff check $(PY_DIRS)
	$(BIN)/ruff format --check $(PY_DIRS)
	$(BIN)/mypy --strict -p pylog -p cluster -p tests.support -p tests.sim -p bench
	clang-format --dry-run --Werror $(C_SOURCES)
	clang-tidy --quiet --warnings-as-errors='*' $(filter csrc/%.c,$(C_SOURCES)) -- -std=c11 -D_GNU_SOURCE -Icsrc
	clang-tidy --quiet --warnings-as-errors='*' pylog/_rows.c -- -std=c11 -DPy_LIMITED_API=0x030b0000 -Icsrc \
	  -isystem $(shell $(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')

fmt: $(STAMP)/lint
	$(BIN)/ruff format $(PY_DIRS)
	clang-format -i $(C_SOURCES)

fix: $(STAMP)/lint
	$(BIN)/ruff check --fix $(PY_DIRS)
	$(MAKE) fmt

# ------------------------------------------------------------------------------------------------------------ bench

BENCH_CC = $(CC) -std=c11 -O2 -Wall -Wextra -Wshadow -Werror

$(STAMP)/load: bench/macro/load.c bench/macro/driver.h
	@mkdir -p build/bench $(STAMP)
	$(BENCH_CC) -o build/bench/load bench/macro/load.c
	@touch $@

$(STAMP)/rdkafka: bench/macro/rdkafka.c bench/macro/driver.h
	@.ci/need bench
	@mkdir -p build/bench $(STAMP)
	$(BENCH_CC) -o build/bench/rdkafka bench/macro/rdkafka.c -lrdkafka -lpthread
	@touch $@

bench: bench-micro bench-macro

bench-micro: build $(STAMP)/test
	$(BIN)/pytest -o addopts=--import-mode=importlib -o python_files='bench_*.py' -o python_functions='bench_* test_*' \
	  bench/micro --benchmark-only $(PYTEST_ARGS)

bench-macro: build $(STAMP)/test $(STAMP)/load $(STAMP)/rdkafka
	$(BIN)/python -m bench.macro.run $(BENCH_ARGS)

bench-cluster: build $(STAMP)/test $(STAMP)/load
	$(BIN)/python -m bench.cluster.run $(BENCH_ARGS)

# The stores it is compared with; nothing else wants them.
$(STAMP)/stores: pyproject.toml $(STAMP)/test
	@echo 'installing the stores to compare with'
	@$(BIN)/python -c 'import tomllib; \
	  print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["bench"]))' \
	  | $(BIN)/pip install -q --disable-pip-version-check -r /dev/stdin
	@touch $@

bench-coordination: $(STAMP)/compiled $(STAMP)/load
	$(AS_IN_A_WHEEL) $(BIN)/python -m bench.coordination.run $(BENCH_ARGS)

bench-library: build $(STAMP)/stores
	$(BIN)/python -m bench.library.run $(BENCH_ARGS)

bench-record: build $(STAMP)/test $(STAMP)/load $(STAMP)/rdkafka
	$(BIN)/python -m bench.macro.run --record $(BENCH_ARGS)
	$(BIN)/python -m bench.report

# Apache Kafka and its tools from Maven Central into ./.peers: what the client tests and the benchmarks compare with.
peers: $(STAMP)/test
	$(BIN)/python -m tests.support.peers kafka39 kafka4

SEED ?= 1
SESSIONS ?= 100
ORACLE ?= kafka39
LIVES ?= $(if $(GROUPS),groups,any)
differential: build $(STAMP)/test
	$(BIN)/python -m tests.differential --seed $(SEED) --sessions $(SESSIONS) --oracle $(ORACLE) --lives $(LIVES)

# ------------------------------------------------------------------------------------------------------------- rest

# Of this version of Python, for the coordinators are compiled; one without that, for every version, is what pip makes alone.
# What setuptools collects for it is thrown away, or the next wheel of any kind would have it too.
wheel: $(STAMP)/test
	rm -rf build/lib.*
	PYLOG_MYPYC=1 $(BIN)/pip wheel -q --disable-pip-version-check --no-build-isolation --no-deps -w dist .
	rm -rf build/lib.*

clean:
	rm -rf build dist *.egg-info pylog/_*.so pylog/_plog.c .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find pylog cluster tests bench csrc -name __pycache__ -type d -exec rm -rf {} +
