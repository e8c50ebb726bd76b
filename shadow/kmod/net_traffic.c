// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hooks while a session lasts that are not about the life of a net_device: the
 * probing task's own rtnl, packets, link events, counters.
 */
#include "net.h"

/* ---- rtnl of the probing task: the thread has it ---- */

bool lu_match_prober(struct ftrace_regs *regs)
{
	return lu_prober();
}

void lu_hook_rtnl_lock(void)
{
	lu_prober()->rtnl_depth++;
	lu_hook_done();
}

int lu_hook_rtnl_trylock(void)
{
	lu_prober()->rtnl_depth++;
	lu_hook_done();
	return 1;
}

int lu_hook_rtnl_lock_killable(void)
{
	lu_prober()->rtnl_depth++;
	lu_hook_done();
	return 0;
}

void lu_hook_rtnl_unlock(void)
{
	lu_prober()->rtnl_depth--;
	lu_hook_done();
}

bool lu_hook_rtnl_is_held(void)
{
	lu_hook_done();
	return true;
}

/* ---- packets, link, counters ---- */

bool lu_match_xmit(struct ftrace_regs *regs)
{
	struct lu_dev *d = lu_net_device((void *)lu_arg(regs, 1));

	if (!d)
		return false;
	if (READ_ONCE(d->gate))
		return true;
	if (!d->when[LU_T_SENT] && READ_ONCE(d->state) == LU_RUNNING)
		lu_now(d, LU_T_SENT);
	return false;
}

struct sk_buff *lu_hook_xmit(struct sk_buff *skb, struct net_device *dev, struct netdev_queue *txq, int *ret)
{
	struct lu_dev *d = lu_net_device(dev);

	set_bit(__QUEUE_STATE_STACK_XOFF, &txq->state);
	if (d)
		d->tx_busy++;
	*ret = NETDEV_TX_BUSY;
	lu_hook_done();
	return skb;
}

bool lu_match_pick(struct ftrace_regs *regs)
{
	return lu_net_in_state((void *)lu_arg(regs, 0), lu_probed);
}

/* ndo_select_queue of a driver that is not ready. */
struct netdev_queue *lu_hook_pick(struct net_device *dev, struct sk_buff *skb, struct net_device *sb_dev)
{
	skb_set_queue_mapping(skb, 0);
	lu_hook_done();
	return netdev_get_tx_queue(dev, 0);
}

bool lu_match_link(struct ftrace_regs *regs)
{
	struct lu_dev *d = lu_net_device((void *)lu_arg(regs, 0));

	return d && READ_ONCE(d->held);
}

void lu_hook_link(struct net_device *dev)
{
	struct lu_dev *d = lu_net_device(dev);

	if (READ_ONCE(d->state) == LU_HELD && netif_carrier_ok(dev))
		lu_net_carrier(d);
	else
		d->link_events++;
	lu_hook_done();
}

bool lu_match_stats(struct ftrace_regs *regs)
{
	struct net_device *dev = (void *)lu_arg(regs, 0);
	struct lu_mark *m = lu_mark_find(dev);

	return (m && m->counts) || lu_net_in_state(dev, lu_net_undriven);
}

struct rtnl_link_stats64 *lu_hook_stats(struct net_device *dev, struct rtnl_link_stats64 *stats)
{
	struct lu_dev *d = lu_net_device(dev);
	struct lu_mark *m;

	if (d && lu_net_undriven(READ_ONCE(d->state))) {
		*stats = d->stats;
		d->stats_reads++;
	} else {
		u64 *to = (u64 *)stats, *from;
		unsigned int i;

		lu_pass(LU_H_STATS);
		dev_get_stats(dev, stats);
		rcu_read_lock();
		m = lu_mark_find(dev);
		from = m && m->counts ? (u64 *)&m->offset : NULL;
		for (i = 0; from && i < sizeof(*stats) / sizeof(u64); i++)
			to[i] += from[i];
		rcu_read_unlock();
	}
	lu_hook_done();
	return stats;
}
