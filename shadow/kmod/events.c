// SPDX-License-Identifier: GPL-2.0-only
/* The log of a session: what read(2) on the device gives. */
#include <linux/uaccess.h>

#include "shadow.h"

#define EVENTS 256	/* a session of 32 devices makes some ten each */

static struct lu_event ring[EVENTS];
static unsigned int head, used, dropped;
static DEFINE_SPINLOCK(ring_lock);
DECLARE_WAIT_QUEUE_HEAD(lu_events_wait);

void lu_events_reset(void)
{
	spin_lock_irq(&ring_lock);
	head = used = dropped = 0;
	spin_unlock_irq(&ring_lock);
}

static void put(struct lu_dev *d, enum lu_kind kind, int arg, const char *fmt, va_list args)
{
	struct lu_event *e;
	unsigned long flags;

	spin_lock_irqsave(&ring_lock, flags);
	if (used == EVENTS) {
		/* The newest counts: a reader that sleeps has no use for the oldest. */
		head = (head + 1) % EVENTS;
		used--;
		dropped++;
	}
	e = &ring[(head + used++) % EVENTS];
	memset(e, 0, sizeof(*e));
	e->when = ktime_get_ns();
	e->device = d ? d->index : ~0u;
	e->kind = kind;
	e->arg = arg;
	e->lost = dropped;
	vscnprintf(e->text, sizeof(e->text), fmt, args);
	spin_unlock_irqrestore(&ring_lock, flags);
	wake_up_all(&lu_events_wait);
}

void lu_event(struct lu_dev *d, enum lu_kind kind, int arg, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	put(d, kind, arg, fmt, args);
	va_end(args);
}

void lu_state(struct lu_dev *d, enum lu_state state)
{
	unsigned long flags;

	spin_lock_irqsave(&d->s->lock, flags);
	WRITE_ONCE(d->state, state);
	spin_unlock_irqrestore(&d->s->lock, flags);
	lu_event(d, LU_EV_STATE, state, "%s", "");
}

bool lu_events_pending(void)
{
	return READ_ONCE(used);
}

/* Copies as many whole events as there are and fit. */
ssize_t lu_events_read(char __user *buf, size_t size)
{
	ssize_t done = 0;

	while (size - done >= sizeof(struct lu_event)) {
		struct lu_event e;
		bool any;

		spin_lock_irq(&ring_lock);
		any = used;
		if (any) {
			e = ring[head];
			head = (head + 1) % EVENTS;
			used--;
			dropped = 0;
		}
		spin_unlock_irq(&ring_lock);
		if (!any)
			break;
		if (copy_to_user(buf + done, &e, sizeof(e)))
			return done ?: -EFAULT;
		done += sizeof(e);
	}
	return done;
}
