# SPDX-License-Identifier: GPL-2.0-or-later
# The simulator. With it the core is compiled whole, so that it can be measured (sim-cov).
SIM_SRCS := $(wildcard tests/sim/*.c)
SIM_CORE := $(addprefix scheduler/,core.c hold.c place.c balance.c wish.c fence.c load.c gossip.c)
TEST_PROGRAMS += $(T)/sim/sim

$(T)/sim/sim: $(patsubst %.c,$(B)/%.o,$(SIM_SRCS)) $(SCHED) $(BASE)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(filter %.o,$^) $(SCHED) $(BASE) -o $@ -lm

# Branches of the core that 2,000 histories take: build/sim-cov/*.gcov
$(B)/sim-cov/sim: $(SIM_SRCS) $(SIM_CORE) chpox/base/err.c
	@mkdir -p $(@D)
	cd $(@D) && $(CC) $(ALL_CFLAGS) -O1 --coverage $(abspath $^) -o sim -lm

# The same core under load (docs/simulation.md, Experiments).
TEST_PROGRAMS += $(T)/load/load
$(T)/load/load: $(patsubst %.c,$(B)/%.o,$(wildcard tests/load/*.c)) $(SCHED) $(BASE)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(filter %.o,$^) $(SCHED) $(BASE) -o $@ -lm
