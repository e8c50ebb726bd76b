// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the driver core says about the devices of a session. Notifiers hold their
 * bus's rwsem: they note, wake the thread, and wait for nobody.
 */
#include <linux/device/bus.h>
#include <linux/sched/task.h>

#include "shadow.h"

struct lu_bus {
	struct notifier_block nb;
	struct bus_type *bus;
	struct lu_session *s;
};

static void bind(struct lu_dev *d)
{
	d->binding = true;
	d->binder = get_task_struct(current);
	lu_now(d, LU_T_BIND);
}

/* The probe has returned, well or not. */
static void probed(struct lu_dev *d, bool bound)
{
	enum lu_state st = READ_ONCE(d->state);

	d->binding = false;
	WRITE_ONCE(d->prober, NULL);
	if (d->binder)
		put_task_struct(d->binder);
	d->binder = NULL;
	if (d->rtnl_depth)
		lu_event(d, LU_EV_NOTE, d->rtnl_depth, "the probe has left rtnl locked %d times", d->rtnl_depth);
	if (bound)
		lu_now(d, LU_T_BOUND);
	if (bound && st == LU_REGISTERED) {
		lu_state(d, LU_BOUND);
	} else if (lu_probed(st)) {
		lu_event(d, LU_EV_ERROR, 0, bound ? "the probe has returned without registering the device" : "the probe failed");
		lu_state(d, LU_RETURNING);
	} else if (bound && st == LU_ALONE) {
		lu_event(d, LU_EV_ERROR, 0, "a driver was bound that did not take the device");
	}
	lu_thread_wake(d->s);
}

/* Somebody else takes the driver away: the device goes as if we were not there. */
static void let_go(struct lu_dev *d)
{
	struct net_device *dev = d->dev;

	lu_state(d, LU_GIVEN_UP);
	lu_event(d, LU_EV_ERROR, 0, "the driver was unbound by somebody else");
	d->dev = NULL;
	netdev_put(dev, &d->tracker);
}

static int notified(struct notifier_block *nb, unsigned long action, void *data)
{
	struct lu_session *s = container_of(nb, struct lu_bus, nb)->s;
	unsigned int i;

	for (i = 0; i < s->n; i++) {
		struct lu_dev *d = s->d[i];
		enum lu_state st = READ_ONCE(d->state);

		if (d->parent != data || st == LU_GIVEN_UP || st == LU_LOST)
			continue;
		switch (action) {
		case BUS_NOTIFY_BIND_DRIVER:
			bind(d);
			break;
		case BUS_NOTIFY_BOUND_DRIVER:
			probed(d, true);
			break;
		case BUS_NOTIFY_DRIVER_NOT_BOUND:
			probed(d, false);
			break;
		case BUS_NOTIFY_UNBIND_DRIVER:
			if (lu_driven(st))
				let_go(d);
			break;
		case BUS_NOTIFY_UNBOUND_DRIVER:
			lu_now(d, LU_T_UNBOUND);
			if (st == LU_STOPPED)
				lu_state(d, LU_ALONE);
			break;
		}
	}
	return NOTIFY_DONE;
}

int lu_bus_watch(struct lu_session *s)
{
	unsigned int i, j;
	int err;

	s->buses = kcalloc(s->n, sizeof(*s->buses), GFP_KERNEL);
	if (!s->buses)
		return -ENOMEM;
	for (i = 0; i < s->n; i++) {
		struct bus_type *bus = s->d[i]->parent->bus;
		struct lu_bus *b = &s->buses[s->n_buses];

		for (j = 0; j < s->n_buses; j++)
			if (s->buses[j].bus == bus)
				break;
		if (j < s->n_buses)
			continue;
		*b = (struct lu_bus){ .nb.notifier_call = notified, .bus = bus, .s = s };
		err = bus_register_notifier(bus, &b->nb);
		if (err)
			return err;
		s->n_buses++;
	}
	return 0;
}

void lu_bus_unwatch(struct lu_session *s)
{
	while (s->n_buses) {
		struct lu_bus *b = &s->buses[--s->n_buses];

		bus_unregister_notifier(b->bus, &b->nb);
	}
	kfree(s->buses);
	s->buses = NULL;
}
