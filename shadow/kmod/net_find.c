// SPDX-License-Identifier: GPL-2.0-only
/* Which network devices a module drives, and whether they can be carried over. */
#include <linux/delay.h>
#include <linux/ethtool.h>
#include <net/net_namespace.h>

#include "net.h"

/* Half of what linkwatch delays an event that is not urgent. */
#define PENDING_STEP_MS	50
#define PENDING_MAX_MS	3000

/* Whether something of the device could not be handed to another driver. */
static const char *obstacle(struct net_device *dev, struct module *m)
{
	unsigned int i;

	if (dev->reg_state != NETREG_REGISTERED)
		return "it is not registered";
	if (!netif_device_present(dev))
		return "it is detached or asleep";
	if (dev->rtnl_link_ops)
		return "it is not a device of hardware";
	if (dev->needs_free_netdev || dev->priv_destructor)
		return "the kernel frees it by itself";
	if (dev->num_tc)
		return "traffic classes are configured in hardware (mqprio, DCB)";
	if (dev->features & (NETIF_F_HW_ESP | NETIF_F_HW_TLS_TX | NETIF_F_HW_TLS_RX | NETIF_F_HW_MACSEC))
		return "IPsec, TLS or MACsec offload is on (ethtool -K turns it off)";
	if (dev->udp_tunnel_nic_info)
		return "it offloads UDP tunnels";
	for (i = 0; i < __MAX_XDP_MODE; i++)
		if (i != XDP_MODE_SKB && dev->xdp_state[i].prog)
			return "an XDP program runs in its driver";
#ifdef CONFIG_XDP_SOCKETS
	for (i = 0; i < dev->num_rx_queues; i++)
		if (dev->_rx[i].pool)
			return "an AF_XDP socket uses it";
#endif
#if IS_ENABLED(CONFIG_CFG80211)
	if (dev->ieee80211_ptr)
		return "it is wireless";
#endif
#if IS_ENABLED(CONFIG_NET_DSA)
	if (dev->dsa_ptr)
		return "it is the port of a switch";
#endif
#ifdef LU_HAVE_PCPU_STAT_TYPE
	if (dev->pcpu_stat_type != NETDEV_PCPU_STAT_NONE)
		return "the kernel keeps its counters";
#endif
	for (i = 0; i < ARRAY_SIZE(dev->sysfs_groups); i++)
		if (dev->sysfs_groups[i] && within_module((unsigned long)dev->sysfs_groups[i], m))
			return "its driver has files of its own in sysfs";
	return NULL;
}

static int add(struct lu_session *s, struct net_device *dev, struct module *m)
{
	const char *why = obstacle(dev, m);
	struct lu_dev *d;
	unsigned int i;

	if (why)
		return lu_why(s, "%s: %s", dev->name, why);
	if (s->n == LU_DEVICES_MAX)
		return lu_why(s, "there are more than %d devices", LU_DEVICES_MAX);
	for (i = 0; i < s->n; i++)
		if (s->d[i]->parent == dev->dev.parent)
			return lu_why(s, "%s has several ports, %s among them", dev_name(dev->dev.parent), dev->name);
	if (s->n && dev->dev.parent->driver->probe_type == PROBE_PREFER_ASYNCHRONOUS)
		return lu_why(s, "the driver probes its %s and other devices at the same time", dev->name);
	d = kzalloc(sizeof(*d), GFP_KERNEL);
	if (!d)
		return -ENOMEM;
	d->s = s;
	d->index = s->n;
	d->dev = dev;
	netdev_hold(dev, &d->tracker, GFP_KERNEL);
	d->parent = get_device(dev->dev.parent);
	d->room = lu_room_of(dev);
	memcpy(d->user.name, dev->name, IFNAMSIZ);
	s->d[s->n++] = d;
	return 0;
}

static bool driven_by(struct net_device *dev, struct module *m)
{
	struct device *parent = dev->dev.parent;

	return parent && parent->bus && parent->driver && parent->driver->owner == m;
}

/* Link events that wait in the queue would act on a link that is being replaced. */
static void settle(struct lu_session *s)
{
	unsigned int i, waited;

	for (i = 0, waited = 0; i < s->n && waited < PENDING_MAX_MS;) {
		if (!test_bit(__LINK_STATE_LINKWATCH_PENDING, &s->d[i]->dev->state)) {
			i++;
			continue;
		}
		msleep(PENDING_STEP_MS);
		waited += PENDING_STEP_MS;
	}
}

int lu_net_find(struct lu_session *s)
{
	struct module *m = lu_module(s->module);
	struct net_device *dev;
	struct net *net;
	int err = 0;

	if (!m)
		return lu_why(s, "the module %s is not loaded", s->module);
	down_read(&net_rwsem);
	rtnl_lock();
	for_each_net(net)
		for_each_netdev(net, dev)
			if (!err && driven_by(dev, m))
				err = add(s, dev, m);
	rtnl_unlock();
	up_read(&net_rwsem);
	module_put(m);
	if (!err && !s->n)
		err = lu_why(s, "the module %s drives no network device", s->module);
	if (!err)
		settle(s);
	return err;
}
