// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counters never go backwards. A new driver starts from zero; what its predecessor
 * had counted is added where counters are read (dev_get_stats), not where packets
 * are counted.
 */
#include "net.h"

#define FIELDS (sizeof(struct rtnl_link_stats64) / sizeof(u64))

/* From now on the device's own counters are shown, ahead by what was there. Called
 * with rtnl held, before the new driver has counted much. */
void lu_stats_carry_on(struct lu_dev *d)
{
	struct rtnl_link_stats64 fresh = { }, offset;
	u64 *before = (u64 *)&d->stats, *now = (u64 *)&fresh, *ahead = (u64 *)&offset;
	unsigned int i;

	/* Also contains what the kernel counts itself and has kept. */
	lu_pass(LU_H_STATS);
	dev_get_stats(d->dev, &fresh);
	for (i = 0; i < FIELDS; i++)
		ahead[i] = before[i] > now[i] ? before[i] - now[i] : 0;
	if (lu_mark_offset(d->dev, &offset))
		lu_event(d, LU_EV_NOTE, -ENOMEM, "counters start from zero: no memory to carry them on");
}
