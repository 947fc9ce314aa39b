# SPDX-License-Identifier: GPL-2.0-or-later
# PID 1 of the rig's machines.
TEST_PROGRAMS += $(T)/rig/init

$(T)/rig/init: tests/rig/init.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -static $< -o $@
