// SPDX-License-Identifier: GPL-2.0-only
/* The hooks: which call concerns us, and what happens instead. */
#include <linux/moduleparam.h>

#include "shadow.h"

unsigned int lu_slack = 8192;
module_param_named(slack, lu_slack, uint, 0444);
MODULE_PARM_DESC(slack, "bytes that a driver's next version may need more, added to each net_device (0 to 65536)");

struct lu_dev *lu_net_device(struct net_device *dev)
{
	struct lu_session *s = READ_ONCE(lu_session);
	unsigned int i;

	for (i = 0; s && i < s->n; i++)
		if (s->d[i]->dev == dev)
			return s->d[i];
	return NULL;
}

/*
 * The device that the current task probes. Where probes run in a kworker, that may
 * go on with other work before anybody notes that the probe has returned: the stack
 * tells.
 */
struct lu_dev *lu_prober(void)
{
	struct lu_session *s = READ_ONCE(lu_session);
	struct lu_dev *d = s ? READ_ONCE(s->window) : NULL;

	return d && READ_ONCE(d->prober) == current && lu_in_bus_probe(NULL) ? d : NULL;
}

static bool in_state(struct net_device *dev, bool (*is)(enum lu_state))
{
	struct lu_dev *d = lu_net_device(dev);

	return d && is(READ_ONCE(d->state));
}

static bool undriven(enum lu_state st)
{
	return !lu_driven(st) && st != LU_GIVEN_UP && st != LU_LOST;
}

static bool probing(enum lu_state st)
{
	return st == LU_PROBING || st == LU_REGISTERED;
}

static bool just_probing(enum lu_state st)
{
	return st == LU_PROBING;
}

static bool empty(enum lu_state st)
{
	return st == LU_ALONE || st == LU_RETURNING;
}

/* ---- alloc_netdev_mqs: give the device that waits, or room for a later one ---- */

static struct lu_dev *waiting(void)
{
	struct lu_session *s = READ_ONCE(lu_session);
	unsigned int i;

	for (i = 0; s && i < s->n; i++) {
		struct lu_dev *d = s->d[i];
		struct device_driver *drv = READ_ONCE(d->parent->driver);

		if (READ_ONCE(d->binding) && empty(READ_ONCE(d->state)) && drv && drv->owner &&
		    !strcmp(drv->owner->name, s->module) && lu_in_bus_probe(drv->owner))
			return d;
	}
	return NULL;
}

static bool match_alloc(struct ftrace_regs *regs)
{
	if (waiting())
		return true;
	return lu_slack && (int)lu_arg(regs, 0) > 0 && lu_in_bus_probe(NULL);
}

static struct net_device *hook_alloc(int priv, const char *name, unsigned char assign,
				     void (*setup)(struct net_device *), unsigned int txqs, unsigned int rxqs)
{
	struct lu_dev *d = waiting();
	struct lu_ask ask = { .priv = priv, .setup = setup, .txqs = txqs, .rxqs = rxqs };
	unsigned int slack = min(lu_slack, 65536u);

	if (d) {
		lu_now(d, LU_T_ALLOC);
		if (!lu_thread_do(d->s, d, lu_net_give, &ask))
			WRITE_ONCE(d->prober, current);
	} else {
		lu_pass(LU_H_ALLOC);
		ask.dev = alloc_netdev_mqs(priv + slack, name, assign, setup, txqs, rxqs);
		if (ask.dev)
			lu_mark_room(ask.dev, priv + slack);
	}
	lu_hook_done();
	return ask.dev;
}

/* ---- the end of a driver's net_device ---- */

static bool match_undriven(struct ftrace_regs *regs)
{
	return in_state((void *)lu_arg(regs, 0), undriven);
}

static void hook_unregister_netdev(struct net_device *dev)
{
	struct lu_dev *d = lu_net_device(dev);

	lu_now(d, LU_T_UNREGISTER);
	/* This one takes rtnl itself, so that its caller has not. */
	lu_thread_do(d->s, d, lu_net_uninit, NULL);
	lu_hook_done();
}

static void hook_unregister_queue(struct net_device *dev, struct list_head *head)
{
	struct lu_work w = { .d = lu_net_device(dev) };

	lu_now(w.d, LU_T_UNREGISTER);
	lu_net_uninit(&w);
	lu_hook_done();
}

/* The list may have several; those of ours are taken out of it. */
static bool match_many(struct ftrace_regs *regs)
{
	struct list_head *head = (void *)lu_arg(regs, 0);
	struct net_device *dev, *tmp;

	list_for_each_entry_safe(dev, tmp, head, unreg_list) {
		struct lu_dev *d = lu_net_device(dev);

		if (d && undriven(READ_ONCE(d->state))) {
			lu_now(d, LU_T_UNREGISTER);
			list_del_init(&dev->unreg_list);
		}
	}
	return false;
}

static bool match_free(struct ftrace_regs *regs)
{
	struct net_device *dev = (void *)lu_arg(regs, 0);

	if (in_state(dev, undriven))
		return true;
	lu_mark_forget(dev);
	return false;
}

static void hook_free(struct net_device *dev)
{
	struct lu_dev *d = lu_net_device(dev);

	lu_net_strip(d);
	lu_now(d, LU_T_FREE);
	lu_hook_done();
}

/* ---- what a probe does to its net_device ---- */

static bool match_register(struct ftrace_regs *regs)
{
	return in_state((void *)lu_arg(regs, 0), just_probing);
}

static int hook_register(struct net_device *dev)
{
	struct lu_dev *d = lu_net_device(dev);
	int err;

	lu_now(d, LU_T_REGISTER);
	err = lu_thread_do(d->s, d, lu_net_register, NULL);
	lu_hook_done();
	return err;
}

static bool match_address(struct ftrace_regs *regs)
{
	return in_state((void *)lu_arg(regs, 0), probing);
}

/* The address in use stays visible; the driver's own is kept for comparison. */
static void hook_address(struct net_device *dev, unsigned int offset, const void *addr, size_t len)
{
	struct lu_dev *d = lu_net_device(dev);

	if (offset < MAX_ADDR_LEN)
		memcpy(d->new_addr + offset, addr, min_t(size_t, len, MAX_ADDR_LEN - offset));
	d->have_new_addr = true;
	lu_hook_done();
}

/* ---- rtnl of the probing task: the thread has it ---- */

static bool match_prober(struct ftrace_regs *regs)
{
	return lu_prober();
}

static void hook_rtnl_lock(void)
{
	lu_prober()->rtnl_depth++;
	lu_hook_done();
}

static int hook_rtnl_trylock(void)
{
	lu_prober()->rtnl_depth++;
	lu_hook_done();
	return 1;
}

static int hook_rtnl_lock_killable(void)
{
	lu_prober()->rtnl_depth++;
	lu_hook_done();
	return 0;
}

static void hook_rtnl_unlock(void)
{
	lu_prober()->rtnl_depth--;
	lu_hook_done();
}

static bool hook_rtnl_is_held(void)
{
	lu_hook_done();
	return true;
}

/* ---- packets, link, counters ---- */

static bool match_xmit(struct ftrace_regs *regs)
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

static struct sk_buff *hook_xmit(struct sk_buff *skb, struct net_device *dev, struct netdev_queue *txq, int *ret)
{
	struct lu_dev *d = lu_net_device(dev);

	set_bit(__QUEUE_STATE_STACK_XOFF, &txq->state);
	if (d)
		d->tx_busy++;
	*ret = NETDEV_TX_BUSY;
	lu_hook_done();
	return skb;
}

static bool match_pick(struct ftrace_regs *regs)
{
	return in_state((void *)lu_arg(regs, 0), lu_probed);
}

/* ndo_select_queue of a driver that is not ready. */
static struct netdev_queue *hook_pick(struct net_device *dev, struct sk_buff *skb, struct net_device *sb_dev)
{
	skb_set_queue_mapping(skb, 0);
	lu_hook_done();
	return netdev_get_tx_queue(dev, 0);
}

static bool match_link(struct ftrace_regs *regs)
{
	struct lu_dev *d = lu_net_device((void *)lu_arg(regs, 0));

	return d && READ_ONCE(d->held);
}

static void hook_link(struct net_device *dev)
{
	struct lu_dev *d = lu_net_device(dev);

	if (READ_ONCE(d->state) == LU_HELD && netif_carrier_ok(dev))
		lu_net_carrier(d);
	else
		d->link_events++;
	lu_hook_done();
}

static bool match_stats(struct ftrace_regs *regs)
{
	struct net_device *dev = (void *)lu_arg(regs, 0);
	struct lu_mark *m = lu_mark_find(dev);

	return (m && m->counts) || in_state(dev, undriven);
}

static struct rtnl_link_stats64 *hook_stats(struct net_device *dev, struct rtnl_link_stats64 *stats)
{
	struct lu_dev *d = lu_net_device(dev);
	struct lu_mark *m;

	if (d && undriven(READ_ONCE(d->state))) {
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

struct lu_hook lu_hooks[] = {
	[LU_H_ALLOC] = { "alloc_netdev_mqs", hook_alloc, match_alloc, LU_WHEN_LOADED },
	[LU_H_STATS] = { "dev_get_stats", hook_stats, match_stats, LU_WHEN_MARKED },
	{ "free_netdev", hook_free, match_free, LU_WHEN_LOADED },
	{ "dev_hard_start_xmit", hook_xmit, match_xmit, LU_WHEN_SESSION },
	{ "netdev_core_pick_tx", hook_pick, match_pick, LU_WHEN_SESSION },
	{ "linkwatch_fire_event", hook_link, match_link, LU_WHEN_SESSION },
	{ "register_netdevice", hook_register, match_register, LU_WHEN_SESSION },
	{ "unregister_netdev", hook_unregister_netdev, match_undriven, LU_WHEN_SESSION },
	{ "unregister_netdevice_queue", hook_unregister_queue, match_undriven, LU_WHEN_SESSION },
	{ "unregister_netdevice_many", NULL, match_many, LU_WHEN_SESSION },
	{ "dev_addr_mod", hook_address, match_address, LU_WHEN_SESSION },
	{ "rtnl_lock", hook_rtnl_lock, match_prober, LU_WHEN_SESSION },
	{ "rtnl_trylock", hook_rtnl_trylock, match_prober, LU_WHEN_SESSION },
	{ "rtnl_lock_killable", hook_rtnl_lock_killable, match_prober, LU_WHEN_SESSION },
	{ "rtnl_unlock", hook_rtnl_unlock, match_prober, LU_WHEN_SESSION },
	{ "lockdep_rtnl_is_held", hook_rtnl_is_held, match_prober, LU_WHEN_SESSION, .optional = true },
};
const unsigned int lu_n_hooks = ARRAY_SIZE(lu_hooks);
