# SPDX-License-Identifier: GPL-2.0-or-later
# The test program of chpox.ko, and chpox.ko itself for each kernel whose headers are there.
TEST_PROGRAMS += $(T)/module/modtest
MODULE_SERIES := $(notdir $(patsubst %/.,%,$(wildcard $(B)/headers/*/.)))
TEST_PROGRAMS += $(patsubst %,$(B)/module/%/chpox.ko,$(MODULE_SERIES))

$(T)/module/modtest: $(wildcard tests/module/*.[ch]) kernel/chpox_uapi.h
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -static $(filter %.c,$^) -o $@

$(B)/module/%/chpox.ko: $(wildcard kernel/*.[ch]) kernel/Makefile
	@mkdir -p $(@D)
	@MAKEFLAGS= $(MAKE) -s -C kernel MO=$(abspath $(@D)) KDIR=$(abspath $(B)/headers/$*/build) W=1 \
		>$(@D)/make.log 2>&1 || { cat $(@D)/make.log; exit 1; }

check-vm: deps
	@$(MAKE) --no-print-directory -s -j$(JOBS) all test-programs
	@tests/runner.sh tests/suite-vm

.PHONY: check-vm
