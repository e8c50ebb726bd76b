// SPDX-License-Identifier: GPL-2.0-only
/*
 * Taking a device away from its driver, which is still whole and bound, and giving it
 * back. By the session's thread.
 */
#include <linux/netpoll.h>

#include "net.h"

static void read_offer(struct lu_dev *d)
{
	struct net_device *dev = d->dev;
	struct lu_offer *o = &d->offer;

	o->features = dev->features;
	o->hw_features = dev->hw_features;
	o->vlan_features = dev->vlan_features;
	o->hw_enc_features = dev->hw_enc_features;
	o->mpls_features = dev->mpls_features;
	o->priv_flags = dev->priv_flags;
	o->ndo = *dev->netdev_ops;
	o->eth = *dev->ethtool_ops;
	o->min_mtu = dev->min_mtu;
	o->max_mtu = dev->max_mtu;
	o->headroom = dev->hard_header_len + dev->needed_headroom;
	o->dev_id = dev->dev_id;
	o->dev_port = dev->dev_port;
	d->have_offer = true;
}

/* From here on nobody calls into a driver by way of the net_device. */
void lu_net_impersonate(struct lu_dev *d)
{
	struct net_device *dev = d->dev;

	WRITE_ONCE(d->gate, true);
	WRITE_ONCE(d->held, true);
	lu_net_hold(dev);
	lu_idle_eth(d);
	netif_tx_lock_bh(dev);
	WRITE_ONCE(dev->netdev_ops, &lu_idle_ndo);
	WRITE_ONCE(dev->ethtool_ops, &d->idle_eth);
	netif_tx_unlock_bh(dev);
	if (dev->watchdog_timeo != LU_IDLE_WATCHDOG)
		d->watchdog_timeo = dev->watchdog_timeo;
	dev->watchdog_timeo = LU_IDLE_WATCHDOG;
	synchronize_net();
}

/* Attributes of queues that a driver has added (virtio_net) lie in its module. */
void lu_net_rxq_groups(struct lu_dev *d, bool add)
{
#ifdef LU_HAVE_RXQ_GROUP
	struct net_device *dev = d->dev;
	unsigned int i;
	int err = 0;

	/* A probe that fails early has set them and nobody has added them. */
	for (i = 0; dev->sysfs_rx_queue_group && add != d->rxq_groups && i < dev->real_num_rx_queues && !err; i++) {
		if (add)
			err = sysfs_create_group(&dev->_rx[i].kobj, dev->sysfs_rx_queue_group);
		else
			sysfs_remove_group(&dev->_rx[i].kobj, dev->sysfs_rx_queue_group);
	}
	if (err)
		lu_event(d, LU_EV_REPLAY, err, "attributes of the receive queues in sysfs");
	d->rxq_groups = add && dev->sysfs_rx_queue_group;
	if (!add)
		dev->sysfs_rx_queue_group = NULL;
#endif
}

/* The driver's ndo_stop, without what NETDEV_DOWN would do: routes and the content
 * of queues stay. */
static void stop(struct lu_dev *d)
{
	struct net_device *dev = d->dev;

	clear_bit(__LINK_STATE_START, &dev->state);
	smp_mb__after_atomic();		/* pairs with netif_running() in NAPI polls */
	if (d->driver_ndo->ndo_stop)
		d->driver_ndo->ndo_stop(dev);
	lu_net_hold(dev);		/* it may have reset the queues */
	if (d->was_carrier)
		clear_bit(__LINK_STATE_NOCARRIER, &dev->state);
	set_bit(__LINK_STATE_START, &dev->state);
}

int lu_net_stop(struct lu_work *w)
{
	struct lu_dev *d = w->d;
	struct net_device *dev = d->dev;

	lu_rtnl_get(d->s);
	if (!netif_device_present(dev)) {
		lu_rtnl_put(d->s);
		return lu_why(d->s, "%s is detached or asleep", dev->name);
	}
	memset(d->when, 0, sizeof(d->when));
	lu_now(d, LU_T_STOP);
	d->driver_ndo = dev->netdev_ops;
	d->driver_eth = dev->ethtool_ops;
	d->uninit = d->driver_ndo->ndo_uninit;
	if (!d->have_offer)
		read_offer(d);
	/* One that was never released does not know what its predecessor had. */
	if (READ_ONCE(d->state) != LU_HELD) {
		lu_settings_read(d);
		d->was_carrier = netif_carrier_ok(dev);
		dev_get_stats(dev, &d->stats);
	}
	d->was_up = dev->flags & IFF_UP;
	lu_state(d, LU_STOPPED);
	netpoll_poll_disable(dev);
	lu_net_impersonate(d);
	if (d->was_up)
		stop(d);
	netif_addr_lock_bh(dev);
	__dev_uc_unsync(dev, NULL);
	__dev_mc_unsync(dev, NULL);
	netif_addr_unlock_bh(dev);
#ifdef LU_HAVE_RXQ_GROUP
	d->group = dev->sysfs_rx_queue_group;
	d->rxq_groups = d->group;
#endif
	lu_net_rxq_groups(d, false);
	netpoll_poll_enable(dev);
	lu_rtnl_put(d->s);
	lu_now(d, LU_T_STOPPED);
	return 0;
}

/* The way back, as long as the driver is bound. */
int lu_net_resume(struct lu_work *w)
{
	struct lu_dev *d = w->d;
	struct net_device *dev = d->dev;
	int err;

	lu_rtnl_get(d->s);
	dev->watchdog_timeo = d->watchdog_timeo;
#ifdef LU_HAVE_RXQ_GROUP
	dev->sysfs_rx_queue_group = d->group;
#endif
	lu_net_rxq_groups(d, true);
	err = lu_net_open(d);
	if (err)
		lu_net_back(d);
	lu_rtnl_put(d->s);
	return err;
}

/* After an ndo_open that failed: bound, and impersonated again. */
void lu_net_back(struct lu_dev *d)
{
	struct net_device *dev = d->dev;

	lu_net_rxq_groups(d, false);
	lu_net_impersonate(d);
	if (d->was_carrier)
		clear_bit(__LINK_STATE_NOCARRIER, &dev->state);
	if (dev->flags & IFF_UP)
		set_bit(__LINK_STATE_START, &dev->state);
	lu_state(d, LU_STOPPED);
}

/* unregister_netdevice() calls this of a driver; rtnl is held by somebody for it. */
int lu_net_uninit(struct lu_work *w)
{
	struct lu_dev *d = w->d;
	bool locked = w->fn && !d->s->rtnl;

	if (!d->uninit)
		return 0;
	if (locked)
		lu_rtnl_get(d->s);
	d->uninit = false;
	d->driver_ndo->ndo_uninit(d->dev);
	if (locked)
		lu_rtnl_put(d->s);
	return 0;
}

/* Instead of free_netdev(): what the driver has hung on it goes, the rest stays. */
void lu_net_strip(struct lu_dev *d)
{
	struct net_device *dev = d->dev;
	struct napi_struct *n, *tmp;

	list_for_each_entry_safe(n, tmp, &dev->napi_list, dev_list)
		netif_napi_del(n);
	dev->dev.type = NULL;
	dev->ml_priv = NULL;
	dev->phydev = NULL;
	dev->sfp_bus = NULL;
#ifdef CONFIG_RFS_ACCEL
	dev->rx_cpu_rmap = NULL;
#endif
#ifdef CONFIG_DCB
	dev->dcbnl_ops = NULL;
#endif
#ifdef CONFIG_XFRM_OFFLOAD
	dev->xfrmdev_ops = NULL;
#endif
#if IS_ENABLED(CONFIG_TLS_DEVICE)
	dev->tlsdev_ops = NULL;
#endif
#if IS_ENABLED(CONFIG_MACSEC)
	dev->macsec_ops = NULL;
#endif
}

/* Nobody wants it: it goes like any other, with the impersonator's operations. */
int lu_net_give_up(struct lu_work *w)
{
	struct lu_dev *d = w->d;
	struct net_device *dev = d->dev;

	lu_state(d, LU_GIVEN_UP);
	lu_event(d, LU_EV_ERROR, 0, "no driver took the device; it is unregistered");
	pr_err("%s: no driver took it; it is unregistered\n", dev->name);
	d->dev = NULL;
	netdev_put(dev, &d->tracker);
	lu_rtnl_drop(d->s);
	unregister_netdev(dev);
	free_netdev(dev);
	return 0;
}
