// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is preserved must not point into the module that goes: neither at its code
 * and data nor at the struct module itself, which an owner pointer names.
 */
#include "shadow.h"

struct part {
	const char *name;
	const void *start;
	size_t size;
};

static int words(struct lu_dev *d, struct module *m, const struct part *p)
{
	const unsigned long *w = p->start, *end = p->start + (p->size & ~(sizeof(long) - 1));
	int hits = 0;

	for (; w < end; w++) {
		unsigned long v = READ_ONCE(*w);

		if (!within_module(v, m))
			continue;
		hits++;
		lu_event(d, LU_EV_POINTER, 0, "%s+%zu: %pS", p->name, (const char *)w - (const char *)p->start, (void *)v);
	}
	return hits;
}

/* How many words of the device's preserved objects point into m. Callers make sure
 * that they do not go meanwhile. */
int lu_scan(struct lu_dev *d, struct module *m)
{
	struct net_device *dev = d->dev;
	unsigned int i;
	struct part parts[] = {
		{ "net_device", dev, sizeof(*dev) },
		{ "rx queues", dev->_rx, dev->num_rx_queues * sizeof(*dev->_rx) },
		{ "tx queues", dev->_tx, dev->num_tx_queues * sizeof(*dev->_tx) },
		{ "sysfs groups", dev->sysfs_groups, sizeof(dev->sysfs_groups) },
	};
	int hits = 0;

	for (i = 0; i < ARRAY_SIZE(parts); i++)
		hits += words(d, m, &parts[i]);
	return hits;
}
