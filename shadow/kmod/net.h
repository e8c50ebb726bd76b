/* SPDX-License-Identifier: GPL-2.0-only */
/* net_*.c: the class of network devices. */
#ifndef LU_NET_H
#define LU_NET_H

#include "shadow.h"

int lu_net_find(struct lu_session *s);
int lu_net_stop(struct lu_work *w);
int lu_net_resume(struct lu_work *w);
int lu_net_give(struct lu_work *w);
int lu_net_register(struct lu_work *w);
int lu_net_attach(struct lu_work *w);
int lu_net_take_back(struct lu_work *w);
int lu_net_uninit(struct lu_work *w);
int lu_net_open(struct lu_dev *d);
void lu_net_back(struct lu_dev *d);
int lu_net_give_up(struct lu_work *w);
int lu_net_check(struct lu_dev *d);
int lu_net_release_all(struct lu_work *w);
void lu_net_impersonate(struct lu_dev *d);
void lu_net_hold(struct net_device *dev);
void lu_net_release(struct lu_dev *d);
void lu_net_wait_carrier(struct lu_dev *d);
void lu_net_bond_wait(struct lu_dev *d);
bool lu_net_bond_waits(struct lu_session *s);
void lu_net_carrier(struct lu_dev *d);
void lu_net_rxq_groups(struct lu_dev *d, bool add);
void lu_net_strip(struct lu_dev *d);
struct lu_dev *lu_net_device(struct net_device *dev);
bool lu_net_held_too_long(struct lu_dev *d);

/* What a probe asks alloc_netdev_mqs() for. */
struct lu_ask {
	int priv;
	void (*setup)(struct net_device *dev);
	unsigned int txqs, rxqs;
	struct net_device *dev;		/* the answer */
};
void lu_settings_read(struct lu_dev *d);
void lu_settings_replay(struct lu_dev *d, bool open);
void lu_settings_free(struct lu_dev *d);
void lu_stats_carry_on(struct lu_dev *d);
extern const struct net_device_ops lu_idle_ndo;
void lu_idle_eth(struct lu_dev *d);
struct lu_dev *lu_prober(void);

#define LU_IDLE_WATCHDOG (3600 * HZ)
extern unsigned int lu_slack;		/* net_hooks.c: added to private areas */

/* net_hooks.c */
bool lu_net_in_state(struct net_device *dev, bool (*is)(enum lu_state));
bool lu_net_undriven(enum lu_state st);

/* net_traffic.c */
bool lu_match_prober(struct ftrace_regs *regs);
void lu_hook_rtnl_lock(void);
int lu_hook_rtnl_trylock(void);
int lu_hook_rtnl_lock_killable(void);
void lu_hook_rtnl_unlock(void);
bool lu_hook_rtnl_is_held(void);
bool lu_match_xmit(struct ftrace_regs *regs);
struct sk_buff *lu_hook_xmit(struct sk_buff *skb, struct net_device *dev, struct netdev_queue *txq, int *ret);
bool lu_match_pick(struct ftrace_regs *regs);
struct netdev_queue *lu_hook_pick(struct net_device *dev, struct sk_buff *skb, struct net_device *sb_dev);
bool lu_match_link(struct ftrace_regs *regs);
void lu_hook_link(struct net_device *dev);
bool lu_match_stats(struct ftrace_regs *regs);
struct rtnl_link_stats64 *lu_hook_stats(struct net_device *dev, struct rtnl_link_stats64 *stats);

#endif
