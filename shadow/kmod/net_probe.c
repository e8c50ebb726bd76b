// SPDX-License-Identifier: GPL-2.0-only
/*
 * The existing net_device in the hands of a probe: it looks like one that was just
 * allocated, then like one that was just registered, and others notice neither. By
 * the session's thread, which holds rtnl from lu_net_give() to the attachment.
 */
#include <linux/mm.h>

#include "net.h"

/* Flags in priv_flags that drivers set. */
#define DRIVER_FLAGS (IFF_UNICAST_FLT | IFF_SUPP_NOFCS | IFF_LIVE_ADDR_CHANGE)

static void remember_user(struct lu_dev *d)
{
	struct net_device *dev = d->dev;
	struct lu_user *u = &d->user;

	u->flags = dev->flags;
	u->mtu = dev->mtu;
	u->tx_queue_len = dev->tx_queue_len;
	u->gso_max_size = dev->gso_max_size;
	u->gso_max_segs = dev->gso_max_segs;
	u->wanted = dev->wanted_features;
	memcpy(u->addr, dev->dev_addr, dev->addr_len);
	u->addr_assign_type = dev->addr_assign_type;
	memcpy(u->name, dev->name, IFNAMSIZ);
	u->name_assign_type = dev->name_assign_type;
	u->real_tx = dev->real_num_tx_queues;
	u->real_rx = dev->real_num_rx_queues;
}

static size_t template_size(int priv)
{
	return ALIGN(sizeof(struct net_device), NETDEV_ALIGN) + priv;
}

/* What setup() would make of a fresh device. It may initialise the private area, too
 * (8390's does), and never runs on the live object: it would take IFF_UP away. */
static struct net_device *template(struct lu_dev *d, struct lu_ask *ask, void **base)
{
	struct net_device *t;

	*base = kvzalloc(template_size(ask->priv) + NETDEV_ALIGN, GFP_KERNEL);
	if (!*base)
		return NULL;
	t = PTR_ALIGN(*base, NETDEV_ALIGN);
	ask->setup(t);
	if (t->type == d->dev->type && t->addr_len == d->dev->addr_len)
		return t;
	lu_event(d, LU_EV_LOST, 0, "it is of another type of hardware (%u, was %u)", t->type, d->dev->type);
	kvfree(*base);
	return NULL;
}

/* The private area as setup() left it; pointers into the template are moved along. */
static void copy_private(struct net_device *dev, struct net_device *t, int priv, size_t room)
{
	unsigned long *w = netdev_priv(dev), from = (unsigned long)t;
	unsigned long end = from + template_size(priv);
	size_t i;

	memset(w, 0, room);
	memcpy(w, netdev_priv(t), priv);
	for (i = 0; i < priv / sizeof(*w); i++)
		if (w[i] >= from && w[i] < end)
			w[i] += (unsigned long)dev - from;
}

static void reset_queues(struct net_device *dev)
{
	unsigned int i;

	for (i = 0; i < dev->num_tx_queues; i++) {
		struct netdev_queue *q = netdev_get_tx_queue(dev, i);

		clear_bit(__QUEUE_STATE_DRV_XOFF, &q->state);
#ifdef CONFIG_BQL
		dql_reset(&q->dql);	/* completions that will never come */
#endif
	}
	lu_net_hold(dev);
}

/* What belongs to a driver becomes as it is in a fresh device; drivers "or" their
 * features into what they find. */
static void reset_fields(struct lu_dev *d, struct net_device *t)
{
	struct net_device *dev = d->dev;

	dev->features = dev->hw_features = dev->vlan_features = 0;
	dev->hw_enc_features = dev->mpls_features = dev->gso_partial_features = 0;
	dev->min_mtu = t->min_mtu;
	dev->max_mtu = t->max_mtu;
	/* Never more than what readers without a lock may rely on. */
	WRITE_ONCE(dev->mtu, min(d->user.mtu, t->mtu));
	dev->hard_header_len = t->hard_header_len;
	dev->min_header_len = t->min_header_len;
	dev->needed_headroom = t->needed_headroom;
	dev->needed_tailroom = t->needed_tailroom;
	dev->header_ops = t->header_ops;
	dev->priv_flags &= ~DRIVER_FLAGS;
	dev->irq = 0;
	dev->base_addr = dev->mem_start = dev->mem_end = 0;
	dev->if_port = dev->dma = 0;
	dev->dev_id = dev->dev_port = 0;
	dev->addr_assign_type = NET_ADDR_PERM;
	dev->watchdog_timeo = 0;
#ifdef LU_HAVE_TSO_MAX
	dev->tso_max_size = TSO_LEGACY_MAX_SIZE;
	dev->tso_max_segs = TSO_MAX_SEGS;
#endif
	lu_net_strip(d);
	memset(&dev->stats, 0, sizeof(dev->stats));
}

int lu_net_give(struct lu_work *w)
{
	struct lu_dev *d = w->d;
	struct lu_ask *ask = w->arg;
	struct net_device *dev = d->dev, *t;
	void *base;

	d->asked = ask->priv;
	if (ask->priv < 0 || ask->priv > d->room) {
		lu_event(d, LU_EV_LOST, 0, "the new driver's private area (%d bytes) does not fit (%zu)", ask->priv, d->room);
		return -ENOMEM;
	}
	if (ask->txqs > dev->num_tx_queues || ask->rxqs > dev->num_rx_queues) {
		lu_event(d, LU_EV_LOST, 0, "the new driver wants %u transmit and %u receive queues, there are %u and %u",
			 ask->txqs, ask->rxqs, dev->num_tx_queues, dev->num_rx_queues);
		return -EINVAL;
	}
	t = template(d, ask, &base);
	if (!t)
		return -EINVAL;

	lu_rtnl_get(d->s);
	remember_user(d);
	d->new_ndo = NULL;
	d->new_eth = NULL;
	d->have_new_addr = false;
	d->rtnl_depth = 0;
	d->lost = d->replay_failed = 0;
	reset_queues(dev);
	clear_bit(__LINK_STATE_START, &dev->state);
	clear_bit(__LINK_STATE_NOCARRIER, &dev->state);
	reset_fields(d, t);
	copy_private(dev, t, ask->priv, d->room);
	dev->reg_state = NETREG_UNINITIALIZED;
	kvfree(base);
	lu_state(d, LU_PROBING);
	d->s->window = d;
	d->s->window_since = jiffies;
	if (lu_guard_on(d))
		lu_event(d, LU_EV_NOTE, 0, "no watchpoints: others may see the name that the probe writes");
	ask->dev = dev;
	return 0;
}

/* What belongs to the stack, and to whoever looks a device up. */
static void restore_identity(struct lu_dev *d)
{
	struct net_device *dev = d->dev;
	struct lu_user *u = &d->user;

	memcpy(dev->name, u->name, IFNAMSIZ);
	dev->name_assign_type = u->name_assign_type;
	dev->tx_queue_len = u->tx_queue_len;
	dev->flags = u->flags;
	dev->addr_assign_type = u->addr_assign_type;
	dev->reg_state = NETREG_REGISTERED;
}

/* What register_netdevice() adds to a driver's features. */
static void normalise(struct lu_dev *d)
{
	struct net_device *dev = d->dev;

	dev->hw_features |= NETIF_F_SOFT_FEATURES | NETIF_F_SOFT_FEATURES_OFF | NETIF_F_NOCACHE_COPY;
	dev->features |= NETIF_F_SOFT_FEATURES;
	if (dev->hw_features & NETIF_F_TSO)
		dev->hw_features |= NETIF_F_TSO_MANGLEID;
	if (dev->vlan_features & NETIF_F_TSO)
		dev->vlan_features |= NETIF_F_TSO_MANGLEID;
	if (dev->mpls_features & NETIF_F_TSO)
		dev->mpls_features |= NETIF_F_TSO_MANGLEID;
	if (dev->hw_enc_features & NETIF_F_TSO)
		dev->hw_enc_features |= NETIF_F_TSO_MANGLEID;
	dev->vlan_features |= NETIF_F_HIGHDMA;
	dev->hw_enc_features |= NETIF_F_SG | NETIF_F_GSO_PARTIAL;
	dev->mpls_features |= NETIF_F_SG;
	/* What the old driver could not do stays off until somebody asks for it. */
	dev->wanted_features = d->user.wanted & (dev->hw_features | dev->features);
}

static void set_queues(struct lu_dev *d, unsigned int tx, unsigned int rx)
{
	struct net_device *dev = d->dev;
	int err = 0;
#ifdef LU_HAVE_RXQ_GROUP
	const struct attribute_group *g = dev->sysfs_rx_queue_group;

	dev->sysfs_rx_queue_group = NULL;
#endif
	dev->real_num_tx_queues = d->user.real_tx;
	dev->real_num_rx_queues = d->user.real_rx;
	if (tx != d->user.real_tx)
		err = netif_set_real_num_tx_queues(dev, tx);
	if (!err && rx != d->user.real_rx)
		err = netif_set_real_num_rx_queues(dev, rx);
	if (err)
		lu_event(d, LU_EV_REPLAY, err, "%u transmit and %u receive queues", tx, rx);
#ifdef LU_HAVE_RXQ_GROUP
	dev->sysfs_rx_queue_group = g;
#endif
	lu_net_rxq_groups(d, true);
}

/* register_netdevice() of a device that is registered. What fails here the driver
 * unwinds as it would any registration that failed. */
int lu_net_register(struct lu_work *w)
{
	struct lu_dev *d = w->d;
	struct net_device *dev = d->dev;
	unsigned int tx = dev->real_num_tx_queues, rx = dev->real_num_rx_queues;
	int err;

	lu_rtnl_get(d->s);	/* if the probe lasted, it was let go */
	lu_guard_off();
	if (dev->netdev_ops != &lu_idle_ndo)
		d->new_ndo = dev->netdev_ops;
	if (dev->ethtool_ops != &d->idle_eth)
		d->new_eth = dev->ethtool_ops;
	if (!d->new_eth)
		d->new_eth = lu_sym.default_ethtool_ops;
	if (!d->new_ndo) {
		lu_event(d, LU_EV_ERROR, -EINVAL, "the driver registers a device without operations");
		return -EINVAL;
	}
	normalise(d);
	err = lu_net_check(d);
	if (err)
		return err;
	d->driver_ndo = d->new_ndo;
	d->driver_eth = d->new_eth;
	dev->netdev_ops = d->new_ndo;
	dev->ethtool_ops = d->new_eth;
	err = d->new_ndo->ndo_init ? d->new_ndo->ndo_init(dev) : 0;
	d->uninit = !err && d->new_ndo->ndo_uninit;
	lu_idle_eth(d);
	dev->netdev_ops = &lu_idle_ndo;		/* until the probe has returned */
	dev->ethtool_ops = &d->idle_eth;
	if (err) {
		lu_event(d, LU_EV_ERROR, err, "ndo_init failed");
		return err > 0 ? -EIO : err;
	}
	restore_identity(d);
	set_queues(d, tx, rx);
	lu_state(d, LU_REGISTERED);
	return 0;
}

/* The probe has failed, and with it all that it had begun to be. */
int lu_net_take_back(struct lu_work *w)
{
	struct lu_dev *d = w->d;
	struct net_device *dev = d->dev;
	struct lu_offer *o = &d->offer;

	lu_rtnl_get(d->s);
	lu_guard_off();
	lu_net_rxq_groups(d, false);
	lu_net_impersonate(d);
	lu_net_strip(d);
	dev->features = o->features;
	dev->hw_features = o->hw_features;
	dev->wanted_features = d->user.wanted;
	dev->vlan_features = o->vlan_features;
	dev->hw_enc_features = o->hw_enc_features;
	dev->mpls_features = o->mpls_features;
	dev->priv_flags = (dev->priv_flags & ~DRIVER_FLAGS) | (o->priv_flags & DRIVER_FLAGS);
	dev->min_mtu = o->min_mtu;
	dev->max_mtu = o->max_mtu;
	WRITE_ONCE(dev->mtu, d->user.mtu);
	dev->real_num_tx_queues = d->user.real_tx;
	dev->real_num_rx_queues = d->user.real_rx;
	restore_identity(d);
	if (d->was_carrier)
		clear_bit(__LINK_STATE_NOCARRIER, &dev->state);
	if (dev->flags & IFF_UP)
		set_bit(__LINK_STATE_START, &dev->state);
	d->s->window = NULL;
	lu_state(d, LU_ALONE);
	lu_rtnl_put(d->s);
	return 0;
}
