# SPDX-License-Identifier: GPL-2.0-or-later
# What the demo needs beside chpox itself.
DEMO_PROGRAMS := $(T)/demo/mkinput $(T)/demo/meter

demo-programs: $(DEMO_PROGRAMS)

$(DEMO_PROGRAMS): $(T)/demo/%: tests/demo/%.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $< -o $@
