// SPDX-License-Identifier: GPL-2.0-only
/*
 * Packets wait in the queueing disciplines from the moment the old driver is stopped
 * until the new one has a carrier. Letting them go earlier makes drivers reset
 * themselves ("pending tx without link"); a link event would drop the queues.
 */
#include "net.h"

#define HOLD_MAX (10 * HZ)

/* The bits alone do not hold: netdev_reset_queue() in a probe clears them, which is
 * why dev_hard_start_xmit() is gated, too. Afterwards nobody is in ndo_start_xmit. */
void lu_net_hold(struct net_device *dev)
{
	unsigned int i;

	for (i = 0; i < dev->num_tx_queues; i++) {
		struct netdev_queue *q = netdev_get_tx_queue(dev, i);

		set_bit(__QUEUE_STATE_STACK_XOFF, &q->state);
		WRITE_ONCE(q->trans_start, jiffies);
	}
	netif_tx_lock_bh(dev);
	netif_tx_unlock_bh(dev);
}

/* In any context. */
void lu_net_release(struct lu_dev *d)
{
	struct net_device *dev = d->dev;
	unsigned int i;

	lu_now(d, LU_T_RELEASED);
	WRITE_ONCE(d->gate, false);
	WRITE_ONCE(d->held, false);
	lu_state(d, LU_RUNNING);
	for (i = 0; i < dev->num_tx_queues; i++) {
		struct netdev_queue *q = netdev_get_tx_queue(dev, i);
		struct Qdisc *qdisc;

		WRITE_ONCE(q->trans_start, jiffies);
		clear_bit(__QUEUE_STATE_STACK_XOFF, &q->state);
		rcu_read_lock();
		qdisc = rcu_dereference(q->qdisc);
		if (qdisc)
			__netif_schedule(qdisc);
		rcu_read_unlock();
	}
	/* What was held back meanwhile, as one event. */
	linkwatch_fire_event(dev);
	lu_thread_wake(d->s);		/* rtnl may have been kept until now */
}

bool lu_net_held_too_long(struct lu_dev *d)
{
	return READ_ONCE(d->state) == LU_HELD && time_after(jiffies, d->held_until);
}

/* The end of an attachment: at once if there is nothing to wait for. */
void lu_net_wait_carrier(struct lu_dev *d)
{
	d->held_until = jiffies + HOLD_MAX;
	lu_state(d, LU_HELD);
	if (!netif_carrier_ok(d->dev) && d->was_carrier && d->dev->flags & IFF_UP) {
		lu_net_bond_wait(d);
		return;
	}
	lu_net_carrier(d);
}

/* The carrier is there; also from the hook of link events, in any context. */
void lu_net_carrier(struct lu_dev *d)
{
	unsigned long flags;
	bool first;

	spin_lock_irqsave(&d->s->lock, flags);
	first = d->state == LU_HELD;
	if (first)
		WRITE_ONCE(d->state, LU_RUNNING);
	spin_unlock_irqrestore(&d->s->lock, flags);
	if (!first)
		return;
	if (netif_carrier_ok(d->dev))
		lu_now(d, LU_T_CARRIER);
	lu_net_release(d);
}

int lu_net_release_all(struct lu_work *w)
{
	struct lu_session *s = lu_session;
	unsigned int i;

	for (i = 0; i < s->n; i++)
		lu_net_carrier(s->d[i]);
	return 0;
}
