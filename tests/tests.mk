# SPDX-License-Identifier: GPL-2.0-or-later
# Targets of the tests, the demo and the bench. Programs of a test folder are in its own *.mk.

T := $(B)/tests
UNIT_TESTS := $(patsubst tests/unit/%.c,$(T)/unit/%,$(wildcard tests/unit/test_*.c))
FUZZERS := $(patsubst tests/fuzz/%.c,$(T)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
TEST_PROGRAMS := $(UNIT_TESTS) $(FUZZERS)
TEST_LIBS := $(if $(wildcard scheduler/*.c),$(SCHED)) $(LIBRARIES)

-include $(wildcard tests/*/*.mk)

$(T)/unit/%: $(B)/tests/unit/%.o $(TEST_LIBS)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $< -Wl,--start-group $(TEST_LIBS) -Wl,--end-group -o $@ -lcmocka $(LIBS)

# Fuzzers are built apart, with clang and its sanitizers, libraries too.
FUZZ_CC := clang
FUZZ_CFLAGS := $(filter-out -O2 -Werror,$(ALL_CFLAGS)) -O1 -I. -fno-omit-frame-pointer \
	-fsanitize=address,undefined -fno-sanitize-recover=undefined -Wno-unknown-warning-option
FUZZ_LIB := $(B)/fuzz/libfuzzed.a
FUZZ_SRCS := $(filter-out %/main.c $(wildcard */main_*.c),$(wildcard \
	chpox/base/*.c store/*.c restore/*.c chpox/*.c scheduler/*.c))

$(B)/fuzz/%.o: %.c
	@mkdir -p $(@D)
	$(FUZZ_CC) $(FUZZ_CFLAGS) -fsanitize=fuzzer-no-link -MMD -MP -c $< -o $@

$(FUZZ_LIB): $(patsubst %.c,$(B)/fuzz/%.o,$(FUZZ_SRCS))

$(T)/fuzz/%: $(B)/fuzz/tests/fuzz/%.o $(FUZZ_LIB)
	@mkdir -p $(@D)
	$(FUZZ_CC) $(FUZZ_CFLAGS) -fsanitize=fuzzer $< $(FUZZ_LIB) -o $@ $(LIBS)

test-programs: $(TEST_PROGRAMS) $(STATES)

JOBS := $(shell nproc 2>/dev/null || echo 2)

# What is to be built is known only once the tools are there: hence the second make.
deps:
	@tests/bootstrap.sh check

check:
	@tests/bootstrap.sh check
	@$(MAKE) --no-print-directory -s -j$(JOBS) all test-programs
	@tests/runner.sh tests/suite

check-long:
	@tests/bootstrap.sh check
	@$(MAKE) --no-print-directory -s -j$(JOBS) all test-programs
	@TIMEOUT=7200 tests/runner.sh tests/suite tests/suite-long

demo:
	@tests/bootstrap.sh demo
	@$(MAKE) --no-print-directory -s -j$(JOBS) all demo-programs
	@tests/demo/demo.sh

bench:
	@tests/bootstrap.sh bench
	@$(MAKE) --no-print-directory -s -j$(JOBS) all bench-programs
	@tests/bench/bench.py $(BENCH_ARGS)

.PHONY: deps test-programs demo-programs bench-programs
