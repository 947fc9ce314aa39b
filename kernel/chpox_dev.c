// SPDX-License-Identifier: GPL-2.0
/*
 * chpox_dev.c - loading and unloading, and the device.
 *
 * Unloading is refused while a descriptor is open, a work is queued or a holder lives: each
 * has a reference to the module. The last instructions of works and holders run after they
 * gave it back, so unloading waits until every task has been scheduled once.
 */
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/rcupdate.h>

#include "chpox.h"
#include "chpox_symbols.h"

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "chpox",
	.fops = &chpox_session_ops,
	.mode = 0666, /* what may be done is asked for each process */
};

static int __init chpox_init(void)
{
	chpox_symbols_find();
	return misc_register(&device);
}

static void __exit chpox_exit(void)
{
	misc_deregister(&device);
	synchronize_rcu_tasks();
}

module_init(chpox_init);
module_exit(chpox_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The chpox authors");
MODULE_DESCRIPTION("Snapshots of running process trees for checkpoint and restart");
MODULE_VERSION("1.0");
