# SPDX-License-Identifier: GPL-2.0-or-later
# Incremental generations against full ones: see oracle.c.
INCREMENTAL := $(T)/incremental/oracle $(T)/incremental/torture
TEST_PROGRAMS += $(INCREMENTAL)

$(T)/incremental/%: $(B)/tests/incremental/%.o $(LIBRARIES)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $< $(LIBRARIES) -o $@ $(LIBS)
