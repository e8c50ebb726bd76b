// SPDX-License-Identifier: GPL-2.0-only
/*
 * The impersonator: what a net_device does while it has no driver. It agrees to
 * what the net_device itself remembers, and the new driver is told of later;
 * everything else is busy.
 */
#include <linux/etherdevice.h>

#include "net.h"

static netdev_tx_t idle_xmit(struct sk_buff *skb, struct net_device *dev)
{
	struct lu_dev *d = lu_net_device(dev);

	set_bit(__QUEUE_STATE_STACK_XOFF, &skb_get_tx_queue(dev, skb)->state);
	if (d)
		d->tx_busy++;
	return NETDEV_TX_BUSY;
}

static int idle_ok(struct net_device *dev)
{
	return 0;
}

static void idle_nothing(struct net_device *dev)
{
}

static void idle_timeout(struct net_device *dev, unsigned int queue)
{
}

static int idle_vid(struct net_device *dev, __be16 proto, u16 vid)
{
	return 0;
}

static int idle_features(struct net_device *dev, netdev_features_t features)
{
	return 0;
}

static int idle_address(struct net_device *dev, void *p)
{
	struct sockaddr *sa = p;

	if (!is_valid_ether_addr(sa->sa_data))
		return -EADDRNOTAVAIL;
	eth_hw_addr_set(dev, sa->sa_data);
	return 0;
}

static void idle_stats(struct net_device *dev, struct rtnl_link_stats64 *stats)
{
	struct lu_dev *d = lu_net_device(dev);

	if (d)
		*stats = d->stats;
}

const struct net_device_ops lu_idle_ndo = {
	.ndo_open		= idle_ok,
	.ndo_stop		= idle_ok,
	.ndo_start_xmit		= idle_xmit,
	.ndo_tx_timeout		= idle_timeout,
	.ndo_set_rx_mode	= idle_nothing,
	.ndo_set_mac_address	= idle_address,
	.ndo_validate_addr	= eth_validate_addr,
	.ndo_set_features	= idle_features,
	.ndo_vlan_rx_add_vid	= idle_vid,
	.ndo_vlan_rx_kill_vid	= idle_vid,
	.ndo_get_stats64	= idle_stats,
};

static int eth_busy(struct net_device *dev)
{
	return -EBUSY;
}

static void eth_drvinfo(struct net_device *dev, struct ethtool_drvinfo *info)
{
	struct lu_dev *d = lu_net_device(dev);

	strscpy(info->driver, KBUILD_MODNAME, sizeof(info->driver));
	if (d)
		strscpy(info->bus_info, dev_name(d->parent), sizeof(info->bus_info));
}

static int eth_link(struct net_device *dev, struct ethtool_link_ksettings *ks)
{
	struct lu_dev *d = lu_net_device(dev);

	if (!d || !d->have_link)
		return -EOPNOTSUPP;
	*ks = d->link;
	return 0;
}

#define ETH_FIRST offsetof(struct ethtool_ops, get_drvinfo)

/*
 * An operation that the driver has is there, too: the ethtool core looks whether it
 * is before it calls begin(), which says that the device is busy. None of them is
 * called after that.
 */
void lu_idle_eth(struct lu_dev *d)
{
	const char *from = (const char *)d->driver_eth;
	char *to = (char *)&d->idle_eth;
	size_t i;

	memcpy(to, from, ETH_FIRST);
	for (i = ETH_FIRST; i + sizeof(void *) <= sizeof(d->idle_eth); i += sizeof(void *))
		*(void **)(to + i) = *(void **)(from + i) ? (void *)eth_busy : NULL;
	d->idle_eth.begin = eth_busy;
	d->idle_eth.complete = NULL;
	d->idle_eth.get_drvinfo = eth_drvinfo;
	d->idle_eth.get_link = ethtool_op_get_link;
	d->idle_eth.get_link_ksettings = eth_link;
}
