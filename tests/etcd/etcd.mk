# SPDX-License-Identifier: GPL-2.0-or-later
TEST_PROGRAMS += $(T)/etcd_probe

$(T)/etcd_probe: $(B)/tests/etcd/etcd_probe.o $(LIBRARIES)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $< $(LINK) -o $@ $(LIBS)
