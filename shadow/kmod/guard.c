// SPDX-License-Identifier: GPL-2.0-only
/*
 * While a driver probes it writes into an object that others are reading: its name
 * (Intel's drivers put the PCI address there), its operations tables. rtnl keeps
 * those away that take it; who reads without a lock, such as a packet filter that
 * matches an interface by name, is not. Four data watchpoints put right what was
 * stored, right behind the store, and keep what the driver meant.
 */
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>

#include "net.h"

enum { NAME_LOW, NAME_HIGH, NDO, ETHTOOL, WATCHES };

static struct perf_event * __percpu *watch[WATCHES];
static struct lu_dev *guarded;
static u64 idle_word;	/* watched to see whether watchpoints are to be had */

/* Runs in the debug exception: no locks, nothing that is traced. */
static void notrace stored(struct perf_event *bp, struct perf_sample_data *data, struct pt_regs *regs)
{
	struct lu_dev *d = READ_ONCE(guarded);
	struct net_device *dev;

	if (!d || READ_ONCE(d->state) != LU_PROBING)
		return;
	dev = d->dev;
	switch ((unsigned long)bp->overflow_handler_context) {
	case NAME_LOW:
	case NAME_HIGH:
		memcpy(dev->name, d->user.name, IFNAMSIZ);
		d->name_stores++;
		break;
	case NDO:
		if (dev->netdev_ops == &lu_idle_ndo)
			break;
		d->new_ndo = dev->netdev_ops;
		WRITE_ONCE(dev->netdev_ops, &lu_idle_ndo);
		d->ops_stores++;
		break;
	case ETHTOOL:
		if (dev->ethtool_ops == &d->idle_eth)
			break;
		d->new_eth = dev->ethtool_ops;
		WRITE_ONCE(dev->ethtool_ops, &d->idle_eth);
		d->ops_stores++;
		break;
	}
}

static int watch_word(unsigned long i, void *addr)
{
	struct perf_event_attr attr;
	struct perf_event * __percpu *w;

	hw_breakpoint_init(&attr);
	attr.bp_addr = (unsigned long)addr;
	attr.bp_len = HW_BREAKPOINT_LEN_8;
	attr.bp_type = HW_BREAKPOINT_W;
	w = register_wide_hw_breakpoint(&attr, stored, (void *)i);
	if (IS_ERR((void __force *)w))
		return PTR_ERR((void __force *)w);
	watch[i] = w;
	return 0;
}

static void unwatch(void)
{
	unsigned int i;

	for (i = 0; i < WATCHES; i++) {
		if (watch[i])
			unregister_wide_hw_breakpoint(watch[i]);
		watch[i] = NULL;
	}
}

/* Whether all four are to be had. */
int lu_guard_reserve(void)
{
	unsigned int i;
	int err = 0;

	for (i = 0; i < WATCHES && !err; i++)
		err = watch_word(i, &idle_word);
	unwatch();
	return err;
}

int lu_guard_on(struct lu_dev *d)
{
	struct net_device *dev = d->dev;
	int err;

	BUILD_BUG_ON(IFNAMSIZ != 16);
	WRITE_ONCE(guarded, d);
	err = watch_word(NAME_LOW, dev->name) ?: watch_word(NAME_HIGH, dev->name + 8) ?:
	      watch_word(NDO, &dev->netdev_ops) ?: watch_word(ETHTOOL, &dev->ethtool_ops);
	if (err)
		lu_guard_off();
	return err;
}

/* By the session's thread, or when there is none. */
void lu_guard_off(void)
{
	unwatch();
	WRITE_ONCE(guarded, NULL);
}
