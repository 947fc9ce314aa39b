# SPDX-License-Identifier: GPL-2.0-or-later
# What the bench needs beside chpox itself.
BENCH_PROGRAMS := $(T)/bench/limits $(T)/bench/target $(T)/bench/nop $(T)/bench/bare

bench-programs: $(BENCH_PROGRAMS)

$(T)/bench/limits $(T)/bench/target: $(T)/bench/%: $(B)/tests/bench/%.o $(B)/tests/bench/data.o
	$(CC) $(ALL_CFLAGS) $^ -o $@ -llz4 -laio

$(T)/bench/bare: $(B)/tests/bench/bare.o
	$(CC) $(ALL_CFLAGS) $^ -o $@

$(T)/bench/nop: tests/bench/nop.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -static $< -o $@
