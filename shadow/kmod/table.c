// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is remembered of a net_device as long as it lives: how much room its private
 * area has, and by how much its counters were ahead when its driver was replaced.
 */
#include <linux/hashtable.h>
#include <linux/mm.h>

#include "shadow.h"

static DEFINE_HASHTABLE(marks, 6);
static DEFINE_SPINLOCK(marks_lock);
static atomic_t counting = ATOMIC_INIT(0);

struct lu_mark *lu_mark_find(struct net_device *dev)
{
	struct lu_mark *m;

	hash_for_each_possible_rcu_notrace(marks, m, node, (unsigned long)dev)
		if (m->dev == dev)
			return m;
	return NULL;
}

static void add(struct lu_mark *m)
{
	spin_lock(&marks_lock);
	hash_add_rcu(marks, &m->node, (unsigned long)m->dev);
	if (m->counts) {
		/* Without this module the counters would fall back. */
		__module_get(THIS_MODULE);
		atomic_inc(&counting);
	}
	spin_unlock(&marks_lock);
}

static void drop(struct lu_mark *m)
{
	spin_lock(&marks_lock);
	hash_del_rcu(&m->node);
	if (m->counts) {
		atomic_dec(&counting);
		module_put(THIS_MODULE);
	}
	spin_unlock(&marks_lock);
	kfree_rcu(m, rcu);
}

int lu_mark_room(struct net_device *dev, size_t room)
{
	struct lu_mark *m = kzalloc(sizeof(*m), GFP_KERNEL);

	if (!m)
		return -ENOMEM;
	m->dev = dev;
	m->room = room;
	add(m);
	return 0;
}

/*
 * Room for a private area. For a device that was allocated before this module was
 * loaded it is what the allocator gave beyond what was asked: memory that is there,
 * but how much is chance.
 */
size_t lu_room_of(struct net_device *dev)
{
	void *base = (char *)dev - dev->padded;
	struct lu_mark *m;
	size_t room = 0, total;

	rcu_read_lock();
	m = lu_mark_find(dev);
	if (m)
		room = m->room;
	rcu_read_unlock();
	if (room)
		return room;
	total = is_vmalloc_addr(base) ? 0 : ksize(base);
	if (total > (char *)netdev_priv(dev) - (char *)base)
		room = total - ((char *)netdev_priv(dev) - (char *)base);
	return room;
}

/* The counters of dev are shown with offset added. Callers hold rtnl. */
int lu_mark_offset(struct net_device *dev, const struct rtnl_link_stats64 *offset)
{
	struct lu_mark *old, *m = kzalloc(sizeof(*m), GFP_KERNEL);

	if (!m)
		return -ENOMEM;
	m->dev = dev;
	m->counts = true;
	m->offset = *offset;
	rcu_read_lock();
	old = lu_mark_find(dev);
	if (old)
		m->room = old->room;
	rcu_read_unlock();
	/* Readers see the old one or the new one: it is put in front. */
	add(m);
	if (old)
		drop(old);
	return 0;
}

/* dev is being freed. Called from the gate: it must not sleep. */
void lu_mark_forget(struct net_device *dev)
{
	struct lu_mark *m;

	rcu_read_lock();
	m = lu_mark_find(dev);
	rcu_read_unlock();
	if (m)
		drop(m);
}

unsigned int lu_marks_counting(void)
{
	return atomic_read(&counting);
}

void lu_marks_free(void)
{
	struct hlist_node *tmp;
	struct lu_mark *m;
	int i;

	hash_for_each_safe(marks, i, tmp, m, node)
		drop(m);
	rcu_barrier();
}
