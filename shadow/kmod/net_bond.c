// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bonds. Everybody else follows link events, which are held back until the new driver
 * has a carrier. A bond with miimon asks its members several times a second whether
 * they are running and have one, and would take the member out. It acts on the answer
 * with rtnl only, and asks again if it cannot have that: so rtnl is kept for it. Where
 * it has a downdelay it waits by itself.
 */
#include "net.h"

#if IS_ENABLED(CONFIG_BONDING)
#include <net/bonding.h>
#endif

/* All configuration waits that long at most; autonegotiation takes some 2 s. */
#define KEEP_MAX (5 * HZ)

static bool asked_by_bond(struct net_device *dev)
{
#if IS_ENABLED(CONFIG_BONDING)
	struct net_device *master = netif_is_bond_slave(dev) ? netdev_master_upper_dev_get(dev) : NULL;
	struct bonding *bond = master ? netdev_priv(master) : NULL;

	return bond && bond->params.miimon && !bond->params.downdelay;
#else
	return false;
#endif
}

/* d waits for its carrier from now on. Callers hold rtnl. */
void lu_net_bond_wait(struct lu_dev *d)
{
	d->keep_until = jiffies + KEEP_MAX;
	WRITE_ONCE(d->keep, asked_by_bond(d->dev));
}

/* Whether rtnl is kept because of a device of the session. */
bool lu_net_bond_waits(struct lu_session *s)
{
	unsigned int i;

	for (i = 0; i < s->n; i++) {
		struct lu_dev *d = s->d[i];

		if (READ_ONCE(d->keep) && READ_ONCE(d->state) == LU_HELD && time_before(jiffies, d->keep_until))
			return true;
	}
	return false;
}
