// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whether a new driver offers at least what the old one did (Live Update, section
 * 5.1): others rely on it, and were told once only.
 */
#include <linux/etherdevice.h>

#include "net.h"

#define SOFT (NETIF_F_SOFT_FEATURES | NETIF_F_SOFT_FEATURES_OFF | NETIF_F_NOCACHE_COPY | NETIF_F_TSO_MANGLEID | NETIF_F_HIGHDMA)
#define DRIVER_FLAGS (IFF_UNICAST_FLT | IFF_SUPP_NOFCS | IFF_LIVE_ADDR_CHANGE)
#define ETH_FIRST offsetof(struct ethtool_ops, get_drvinfo)

/* Tables of operations are functions, all of them behind the offset from. */
static void tables(struct lu_dev *d, const char *what, const void *old, const void *new, size_t from, size_t size)
{
	size_t i;

	for (i = from; i + sizeof(void *) <= size; i += sizeof(void *)) {
		if (!*(void **)(old + i) || *(void **)(new + i))
			continue;
		lu_event(d, LU_EV_LOST, 0, "the operation %s+%zu (%ps)", what, i, *(void **)(old + i));
		d->lost++;
	}
}

static void features(struct lu_dev *d, const char *what, netdev_features_t old, netdev_features_t new)
{
	netdev_features_t gone = old & ~SOFT & ~new;

	if (!gone)
		return;
	lu_event(d, LU_EV_LOST, 0, "%s %pNF", what, &gone);
	d->lost++;
}

/* What no request would reveal, or what nothing could work without. */
static int impossible(struct lu_dev *d)
{
	struct net_device *dev = d->dev;
	struct lu_offer *o = &d->offer;

	if (dev->dev_id != o->dev_id || dev->dev_port != o->dev_port)
		return lu_event(d, LU_EV_LOST, 0, "its port (%u, was %u)", dev->dev_port, o->dev_port), -EOPNOTSUPP;
	if (dev->hard_header_len + dev->needed_headroom > o->headroom)
		return lu_event(d, LU_EV_LOST, 0, "packets that wait have too little headroom (%u, now %u)",
				o->headroom, dev->hard_header_len + dev->needed_headroom), -EOPNOTSUPP;
	if (d->have_new_addr && dev->addr_assign_type == NET_ADDR_PERM &&
	    !is_zero_ether_addr(dev->perm_addr) && memcmp(d->new_addr, dev->perm_addr, dev->addr_len))
		return lu_event(d, LU_EV_LOST, 0, "its permanent address (%pM, was %pM): is it the same device?",
				d->new_addr, dev->perm_addr), -EOPNOTSUPP;
	if (dev->min_mtu > d->user.mtu || (dev->max_mtu && dev->max_mtu < d->user.mtu))
		return lu_event(d, LU_EV_LOST, 0, "the MTU in use, %u (%u to %u)", d->user.mtu, dev->min_mtu, dev->max_mtu), -EOPNOTSUPP;
	if (dev->udp_tunnel_nic_info || dev->priv_destructor || dev->needs_free_netdev)
		return lu_event(d, LU_EV_LOST, 0, "it registers what cannot be registered again (UDP tunnels, a destructor)"), -EOPNOTSUPP;
#ifdef LU_HAVE_PCPU_STAT_TYPE
	if (dev->pcpu_stat_type != NETDEV_PCPU_STAT_NONE)
		return lu_event(d, LU_EV_LOST, 0, "it wants counters that the kernel keeps"), -EOPNOTSUPP;
#endif
	return 0;
}

int lu_net_check(struct lu_dev *d)
{
	struct net_device *dev = d->dev;
	struct lu_offer *o = &d->offer;
	unsigned long long flags = o->priv_flags & DRIVER_FLAGS & ~dev->priv_flags;
	int err = impossible(d);

	if (err)
		return err;
	tables(d, "net_device_ops", &o->ndo, d->new_ndo, 0, sizeof(o->ndo));
	tables(d, "ethtool_ops", &o->eth, d->new_eth, ETH_FIRST, sizeof(o->eth));
	features(d, "features that can be switched:", o->hw_features, dev->hw_features);
	features(d, "features:", o->features, dev->features | dev->hw_features);
	features(d, "features of VLANs:", o->vlan_features, dev->vlan_features);
	features(d, "features of tunnels:", o->hw_enc_features, dev->hw_enc_features);
	if (flags) {
		lu_event(d, LU_EV_LOST, 0, "abilities (priv_flags %llx)", flags);
		d->lost++;
	}
	if (o->eth.supported_coalesce_params & ~d->new_eth->supported_coalesce_params) {
		lu_event(d, LU_EV_LOST, 0, "parameters of interrupt coalescing");
		d->lost++;
	}
	return d->lost && !(d->s->flags & LU_F_CONTINUE) ? -EOPNOTSUPP : 0;
}
