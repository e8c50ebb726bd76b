// SPDX-License-Identifier: GPL-2.0-only
/*
 * The driver's probe has returned: it gets what users had set, and is opened. By the
 * session's thread with rtnl held, so that all of it is one change for others.
 */
#include <linux/netpoll.h>

#include "net.h"

/* What the kernel takes for drivers that say nothing (__netdev_watchdog_up()). */
#define WATCHDOG (5 * HZ)

static int set_mtu(struct lu_dev *d)
{
	struct net_device *dev = d->dev;
	int err = 0;

	if (dev->mtu == d->user.mtu)
		return 0;
	if (d->driver_ndo->ndo_change_mtu)
		err = d->driver_ndo->ndo_change_mtu(dev, d->user.mtu);
	WRITE_ONCE(dev->mtu, d->user.mtu);
	if (err)
		lu_event(d, LU_EV_ERROR, err, "the new driver does not take the MTU %u", d->user.mtu);
	return err;
}

static int set_address(struct lu_dev *d)
{
	struct net_device *dev = d->dev;
	struct sockaddr_storage ss = { .ss_family = dev->type };
	struct sockaddr *sa = (struct sockaddr *)&ss;
	int err;

	if (!d->have_new_addr || !memcmp(d->new_addr, dev->dev_addr, dev->addr_len))
		return 0;
	memcpy((char *)&ss + offsetof(struct sockaddr, sa_data), dev->dev_addr, dev->addr_len);
	err = d->driver_ndo->ndo_set_mac_address ? d->driver_ndo->ndo_set_mac_address(dev, sa) : -EOPNOTSUPP;
	dev->addr_assign_type = d->user.addr_assign_type;
	if (err)
		lu_event(d, LU_EV_ERROR, err, "the new driver does not take the address %pM", dev->dev_addr);
	return err;
}

static int open(struct lu_dev *d)
{
	struct net_device *dev = d->dev;
	const struct net_device_ops *o = d->driver_ndo;
	int err = 0;

	netpoll_poll_disable(dev);
	set_bit(__LINK_STATE_START, &dev->state);
	if (o->ndo_validate_addr)
		err = o->ndo_validate_addr(dev);
	if (!err && o->ndo_open)
		err = o->ndo_open(dev);
	if (err)
		clear_bit(__LINK_STATE_START, &dev->state);
	netpoll_poll_enable(dev);
	return err;
}

/* The driver's operations are put in force, and the device is up if it was. */
int lu_net_open(struct lu_dev *d)
{
	struct net_device *dev = d->dev;
	int err = 0;

	lu_now(d, LU_T_OPEN);
	netif_tx_lock_bh(dev);
	WRITE_ONCE(dev->netdev_ops, d->driver_ndo);
	WRITE_ONCE(dev->ethtool_ops, d->driver_eth);
	netif_tx_unlock_bh(dev);
	/* Without the events of netdev_update_features(): the link is not up yet. */
	lu_sym.netdev_update_features(dev);
	lu_settings_replay(d, false);
	/* The watchdog's timer may be due from before. It must find neither a limit of 0
	 * nor the time of the old driver's last packet: queues are stopped until later. */
	if (dev->watchdog_timeo <= 0 || dev->watchdog_timeo == LU_IDLE_WATCHDOG)
		dev->watchdog_timeo = WATCHDOG;
	if (dev->flags & IFF_UP) {
		lu_net_hold(dev);
		clear_bit(__LINK_STATE_START, &dev->state);
		err = open(d);
		if (err) {
			lu_event(d, LU_EV_ERROR, err, "ndo_open failed");
			return err;
		}
	}
	lu_now(d, LU_T_OPENED);
	if (dev->flags & IFF_UP) {
		lu_sym.dev_set_rx_mode(dev);
		if (dev->features & NETIF_F_HW_VLAN_CTAG_FILTER)
			call_netdevice_notifiers(NETDEV_CVLAN_FILTER_PUSH_INFO, dev);
		if (dev->features & NETIF_F_HW_VLAN_STAG_FILTER)
			call_netdevice_notifiers(NETDEV_SVLAN_FILTER_PUSH_INFO, dev);
		if (d->driver_ndo->ndo_tx_timeout)
			__netdev_watchdog_up(dev);
	}
	lu_settings_replay(d, true);
	lu_stats_carry_on(d);
	lu_net_wait_carrier(d);
	return 0;
}

int lu_net_attach(struct lu_work *w)
{
	struct lu_dev *d = w->d;
	struct net_device *dev = d->dev;
	int err;

	lu_rtnl_get(d->s);
	err = set_mtu(d) ?: set_address(d);
#ifdef LU_HAVE_TSO_MAX
	dev->gso_max_size = min(d->user.gso_max_size, dev->tso_max_size);
	dev->gso_max_segs = min(d->user.gso_max_segs, dev->tso_max_segs);
#endif
	if (!err)
		err = lu_net_open(d);
	if (err)
		lu_net_back(d);
	else if (d->lost)
		netdev_features_change(dev);	/* whoever is on top of it has a copy */
	d->s->window = NULL;
	lu_rtnl_put(d->s);
	return err;
}
