// SPDX-License-Identifier: GPL-2.0-only
/*
 * The hooks, and those of a net_device's life: which call concerns us, and what
 * happens instead. Those of packets, link and counters are in net_traffic.c.
 */
#include <linux/moduleparam.h>

#include "net.h"

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

bool lu_net_in_state(struct net_device *dev, bool (*is)(enum lu_state))
{
	struct lu_dev *d = lu_net_device(dev);

	return d && is(READ_ONCE(d->state));
}

bool lu_net_undriven(enum lu_state st)
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
	return lu_net_in_state((void *)lu_arg(regs, 0), lu_net_undriven);
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

		if (d && lu_net_undriven(READ_ONCE(d->state))) {
			lu_now(d, LU_T_UNREGISTER);
			list_del_init(&dev->unreg_list);
		}
	}
	return false;
}

static bool match_free(struct ftrace_regs *regs)
{
	struct net_device *dev = (void *)lu_arg(regs, 0);

	if (lu_net_in_state(dev, lu_net_undriven))
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
	return lu_net_in_state((void *)lu_arg(regs, 0), just_probing);
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
	return lu_net_in_state((void *)lu_arg(regs, 0), probing);
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

struct lu_hook lu_hooks[] = {
	[LU_H_ALLOC] = { "alloc_netdev_mqs", hook_alloc, match_alloc, LU_WHEN_LOADED },
	[LU_H_STATS] = { "dev_get_stats", lu_hook_stats, lu_match_stats, LU_WHEN_MARKED },
	{ "free_netdev", hook_free, match_free, LU_WHEN_LOADED },
	{ "dev_hard_start_xmit", lu_hook_xmit, lu_match_xmit, LU_WHEN_SESSION },
	{ "netdev_core_pick_tx", lu_hook_pick, lu_match_pick, LU_WHEN_SESSION },
	{ "linkwatch_fire_event", lu_hook_link, lu_match_link, LU_WHEN_SESSION },
	{ "register_netdevice", hook_register, match_register, LU_WHEN_SESSION },
	{ "unregister_netdev", hook_unregister_netdev, match_undriven, LU_WHEN_SESSION },
	{ "unregister_netdevice_queue", hook_unregister_queue, match_undriven, LU_WHEN_SESSION },
	{ "unregister_netdevice_many", NULL, match_many, LU_WHEN_SESSION },
	{ "dev_addr_mod", hook_address, match_address, LU_WHEN_SESSION },
	{ "rtnl_lock", lu_hook_rtnl_lock, lu_match_prober, LU_WHEN_SESSION },
	{ "rtnl_trylock", lu_hook_rtnl_trylock, lu_match_prober, LU_WHEN_SESSION },
	{ "rtnl_lock_killable", lu_hook_rtnl_lock_killable, lu_match_prober, LU_WHEN_SESSION },
	{ "rtnl_unlock", lu_hook_rtnl_unlock, lu_match_prober, LU_WHEN_SESSION },
	{ "lockdep_rtnl_is_held", lu_hook_rtnl_is_held, lu_match_prober, LU_WHEN_SESSION, .optional = true },
};
const unsigned int lu_n_hooks = ARRAY_SIZE(lu_hooks);
