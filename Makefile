# SPDX-License-Identifier: GPL-2.0-or-later
# make            build everything under build/
# make check      the test suite        make demo   the main job on real input
# make bench      ratios                make check-long   what takes longer
B      := build
CC     ?= gcc
CFLAGS ?= -O2 -g
ALL_CFLAGS := -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Wall -Wextra -Werror \
	-Wstrict-prototypes -Wmissing-prototypes -Wvla -fno-strict-aliasing -pthread $(CFLAGS)
LIBS   := -luv -ljansson -lxxhash -llz4 -lz -lm -lpthread

srcs = $(filter-out $(1)/main_%.c,$(wildcard $(1)/*.c))
objs = $(patsubst %.c,$(B)/%.o,$(call srcs,$(1)))

BASE := $(B)/libbase.a
STORE := $(B)/libstore.a
RESTORE := $(B)/librestore.a
CHPOX := $(B)/libchpox.a
SCHED := $(B)/libscheduler.a
LIBRARIES := $(CHPOX) $(SCHED) $(RESTORE) $(STORE) $(BASE)
LINK   := -Wl,--start-group $(LIBRARIES) -Wl,--end-group
PROGRAMS := $(patsubst %,$(B)/%,$(patsubst main_%,chpox_%,$(basename $(notdir $(wildcard chpox/main_*.c))))) \
	$(if $(wildcard scheduler/main_chpoxd.c),$(B)/chpoxd)

all: $(LIBRARIES) $(PROGRAMS)

$(BASE): $(call objs,chpox/base)
$(STORE): $(call objs,store)
$(RESTORE): $(call objs,restore)
$(CHPOX): $(call objs,chpox)
$(SCHED): $(call objs,scheduler)
%.a:
	@rm -f $@
	ar rcs $@ $^

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

$(B)/chpox_%: $(B)/chpox/main_%.o $(LIBRARIES)
	$(CC) $(ALL_CFLAGS) $< $(LINK) -o $@ $(LIBS)

$(B)/chpoxd: $(B)/scheduler/main_chpoxd.o $(LIBRARIES)
	$(CC) $(ALL_CFLAGS) $< $(LINK) -o $@ $(LIBS)

clean:
	rm -rf $(B)

.PHONY: all clean check check-long demo bench
.SECONDARY:
-include $(shell find $(B) -name '*.d' 2>/dev/null)
-include tests/tests.mk
