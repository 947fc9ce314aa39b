# SPDX-License-Identifier: GPL-2.0-or-later
# Each tests/states/st_NAME.c is a program of its own: build/tests/states/NAME.
STATES := $(patsubst tests/states/st_%.c,$(B)/tests/states/%,$(wildcard tests/states/st_*.c))

states: $(STATES)

$(B)/tests/states/%: $(B)/tests/states/st_%.o $(B)/tests/states/state.o
	$(CC) $(ALL_CFLAGS) $^ -o $@ -lrt -lpthread -laio -lutil

.PHONY: states
