// SPDX-License-Identifier: GPL-2.0-only
/*
 * Settings that only a driver knows, read before it goes and given to its successor:
 * what its ethtool operations can read and set. What differs from the successor's own
 * value is set before it is opened, or, if it wants to be open for that, after.
 */
#include <linux/mm.h>

#include "net.h"

#define RULES_MAX 4096

enum { FLAGS, CHANNELS, RING, COALESCE, PAUSE, WOL, EEE, MESSAGES, LINK, RSS, RULES, SETTINGS };

static const char *const names[SETTINGS] = {
	"private flags", "channels", "rings", "coalescing", "pause", "wake-on-lan", "EEE",
	"message level", "link settings", "receive hash", "flow rules",
};

struct lu_settings {
	unsigned long have, done;
	u32 flags, messages;
	struct ethtool_channels channels;
	struct ethtool_ringparam ring;
	struct kernel_ethtool_ringparam kring;
	struct ethtool_coalesce coalesce;
	struct kernel_ethtool_coalesce kcoalesce;
	struct ethtool_pauseparam pause;
	struct ethtool_wolinfo wol;
	struct ethtool_eee eee;
	struct ethtool_link_ksettings link;
	u32 indir_size, key_size;
	u8 hfunc;
	u32 *indir;		/* followed by the key */
	u32 n_rules;
	struct ethtool_rxnfc *rules;
};

static void drop(struct lu_settings *v)
{
	if (!v)
		return;
	kvfree(v->indir);
	kvfree(v->rules);
	kvfree(v);
}

void lu_settings_free(struct lu_dev *d)
{
	drop(d->settings);
	d->settings = NULL;
}

static bool read_rss(struct net_device *dev, const struct ethtool_ops *e, struct lu_settings *v)
{
	if (!e->get_rxfh || !e->set_rxfh)
		return false;
	v->indir_size = e->get_rxfh_indir_size ? e->get_rxfh_indir_size(dev) : 0;
	v->key_size = e->get_rxfh_key_size ? e->get_rxfh_key_size(dev) : 0;
	if (!v->indir_size && !v->key_size)
		return false;
	v->indir = kvzalloc(v->indir_size * sizeof(u32) + v->key_size, GFP_KERNEL);
	return v->indir && !e->get_rxfh(dev, v->indir_size ? v->indir : NULL,
					v->key_size ? (u8 *)(v->indir + v->indir_size) : NULL, &v->hfunc);
}

static bool read_rules(struct net_device *dev, const struct ethtool_ops *e, struct lu_settings *v)
{
	struct ethtool_rxnfc info = { .cmd = ETHTOOL_GRXCLSRLCNT };
	u32 i, *where;
	bool ok;

	if (!e->get_rxnfc || !e->set_rxnfc || e->get_rxnfc(dev, &info, NULL) || !info.rule_cnt || info.rule_cnt > RULES_MAX)
		return false;
	v->n_rules = info.rule_cnt;
	where = kvcalloc(v->n_rules, sizeof(*where), GFP_KERNEL);
	v->rules = kvcalloc(v->n_rules, sizeof(*v->rules), GFP_KERNEL);
	info = (struct ethtool_rxnfc){ .cmd = ETHTOOL_GRXCLSRLALL, .rule_cnt = v->n_rules };
	ok = where && v->rules && !e->get_rxnfc(dev, &info, where);
	for (i = 0; ok && i < v->n_rules; i++) {
		v->rules[i] = (struct ethtool_rxnfc){ .cmd = ETHTOOL_GRXCLSRULE, .fs.location = where[i] };
		ok = !e->get_rxnfc(dev, &v->rules[i], NULL);
	}
	kvfree(where);
	return ok;
}

static bool read_flags(struct net_device *dev, const struct ethtool_ops *e, struct lu_settings *v)
{
	if (!e->get_priv_flags || !e->set_priv_flags)
		return false;
	v->flags = e->get_priv_flags(dev);
	return true;
}

/* Reads setting i of the driver whose operations e are; whether it has one. */
static bool read_one(struct net_device *dev, const struct ethtool_ops *e, int i, struct lu_settings *v)
{
	switch (i) {
	case FLAGS:
		return read_flags(dev, e, v);
	case CHANNELS:
		if (e->get_channels && e->set_channels)
			return e->get_channels(dev, &v->channels), true;
		return false;
	case RING:
		if (e->get_ringparam && e->set_ringparam)
			return e->get_ringparam(dev, &v->ring, &v->kring, NULL), true;
		return false;
	case COALESCE:
		return e->get_coalesce && e->set_coalesce && !e->get_coalesce(dev, &v->coalesce, &v->kcoalesce, NULL);
	case PAUSE:
		if (e->get_pauseparam && e->set_pauseparam)
			return e->get_pauseparam(dev, &v->pause), true;
		return false;
	case WOL:
		if (e->get_wol && e->set_wol)
			return e->get_wol(dev, &v->wol), true;
		return false;
	case EEE:
		return e->get_eee && e->set_eee && !e->get_eee(dev, &v->eee);
	case MESSAGES:
		if (e->get_msglevel && e->set_msglevel)
			return v->messages = e->get_msglevel(dev), true;
		return false;
	case LINK:
		return e->get_link_ksettings && !e->get_link_ksettings(dev, &v->link);
	case RSS:
		return read_rss(dev, e, v);
	case RULES:
		return read_rules(dev, e, v);
	}
	return false;
}

static struct lu_settings *read_all(struct net_device *dev, const struct ethtool_ops *e)
{
	struct lu_settings *v = kvzalloc(sizeof(*v), GFP_KERNEL);
	int i;

	if (!v || (e->begin && e->begin(dev) < 0))
		return v;
	for (i = 0; i < SETTINGS; i++)
		if (read_one(dev, e, i, v))
			__set_bit(i, &v->have);
	if (e->complete)
		e->complete(dev);
	return v;
}

/* Of the driver at work. Callers hold rtnl. */
void lu_settings_read(struct lu_dev *d)
{
	struct lu_settings *v = read_all(d->dev, d->dev->ethtool_ops);

	lu_settings_free(d);
	d->settings = v;
	d->have_link = v && test_bit(LINK, &v->have);
	if (d->have_link)
		d->link = v->link;
	if (!v)
		lu_event(d, LU_EV_REPLAY, -ENOMEM, "no memory for the driver's settings");
}

static bool same_link(const struct ethtool_link_ksettings *a, const struct ethtool_link_ksettings *b)
{
	if (a->base.autoneg != b->base.autoneg)
		return false;
	if (a->base.autoneg == AUTONEG_DISABLE)
		return a->base.speed == b->base.speed && a->base.duplex == b->base.duplex;
	return bitmap_equal(a->link_modes.advertising, b->link_modes.advertising, __ETHTOOL_LINK_MODE_MASK_NBITS);
}

static bool same(int i, const struct lu_settings *a, const struct lu_settings *b)
{
	switch (i) {
	case FLAGS:
		return a->flags == b->flags;
	case CHANNELS:
		return a->channels.rx_count == b->channels.rx_count && a->channels.tx_count == b->channels.tx_count &&
		       a->channels.combined_count == b->channels.combined_count && a->channels.other_count == b->channels.other_count;
	case RING:
		return a->ring.rx_pending == b->ring.rx_pending && a->ring.tx_pending == b->ring.tx_pending &&
		       a->ring.rx_mini_pending == b->ring.rx_mini_pending && a->ring.rx_jumbo_pending == b->ring.rx_jumbo_pending &&
		       !memcmp(&a->kring, &b->kring, sizeof(a->kring));
	case COALESCE:
		return !memcmp(&a->coalesce, &b->coalesce, sizeof(a->coalesce)) && !memcmp(&a->kcoalesce, &b->kcoalesce, sizeof(a->kcoalesce));
	case PAUSE:
		return a->pause.autoneg == b->pause.autoneg && a->pause.rx_pause == b->pause.rx_pause && a->pause.tx_pause == b->pause.tx_pause;
	case WOL:
		return a->wol.wolopts == b->wol.wolopts;
	case EEE:
		return a->eee.eee_enabled == b->eee.eee_enabled && a->eee.tx_lpi_enabled == b->eee.tx_lpi_enabled &&
		       a->eee.tx_lpi_timer == b->eee.tx_lpi_timer && a->eee.advertised == b->eee.advertised;
	case MESSAGES:
		return a->messages == b->messages;
	case LINK:
		return same_link(&a->link, &b->link);
	case RSS:
		return a->indir_size == b->indir_size && a->key_size == b->key_size && a->hfunc == b->hfunc &&
		       !memcmp(a->indir, b->indir, a->indir_size * sizeof(u32) + a->key_size);
	}
	return false;
}

static int set_rules(struct net_device *dev, const struct ethtool_ops *e, struct lu_settings *v)
{
	u32 i;
	int err = 0;

	for (i = 0; i < v->n_rules && !err; i++) {
		v->rules[i].cmd = ETHTOOL_SRXCLSRLINS;
		err = e->set_rxnfc(dev, &v->rules[i]);
	}
	return err;
}

static int set_one(struct net_device *dev, const struct ethtool_ops *e, int i, struct lu_settings *v, const struct lu_settings *now)
{
	switch (i) {
	case FLAGS:
		return e->set_priv_flags(dev, v->flags);
	case CHANNELS:
		return e->set_channels(dev, &v->channels);
	case RING:
		return e->set_ringparam(dev, &v->ring, &v->kring, NULL);
	case COALESCE:
		return e->set_coalesce(dev, &v->coalesce, &v->kcoalesce, NULL);
	case PAUSE:
		return e->set_pauseparam(dev, &v->pause);
	case WOL:
		return e->set_wol(dev, &v->wol);
	case EEE:
		return e->set_eee(dev, &v->eee);
	case MESSAGES:
		e->set_msglevel(dev, v->messages);
		return 0;
	case LINK:
		return e->set_link_ksettings ? e->set_link_ksettings(dev, &v->link) : -EOPNOTSUPP;
	case RSS:
		if (v->indir_size != now->indir_size || v->key_size != now->key_size)
			return -EOPNOTSUPP;
		return e->set_rxfh(dev, v->indir_size ? v->indir : NULL,
				   v->key_size ? (u8 *)(v->indir + v->indir_size) : NULL, v->hfunc);
	case RULES:
		return e->set_rxnfc ? set_rules(dev, e, v) : -EOPNOTSUPP;
	}
	return -EINVAL;
}

/* Callers hold rtnl; open says whether the driver's ndo_open has been called. */
void lu_settings_replay(struct lu_dev *d, bool open)
{
	struct net_device *dev = d->dev;
	const struct ethtool_ops *e = d->driver_eth;
	struct lu_settings *v = d->settings, *now;
	int i, err;

	if (!v)
		return;
	now = read_all(dev, e);
	if (!open)
		v->done = 0;
	if (!now || (e->begin && e->begin(dev) < 0)) {
		drop(now);
		return;
	}
	for (i = 0; i < SETTINGS; i++) {
		if (!test_bit(i, &v->have) || test_bit(i, &v->done))
			continue;
		if (test_bit(i, &now->have) && same(i, v, now))
			err = 0;
		else if (i == LINK && (!e->set_link_ksettings || v->link.base.autoneg == AUTONEG_ENABLE) && !open)
			continue;	/* it may become so by itself */
		else if (i == RULES || test_bit(i, &now->have))
			err = set_one(dev, e, i, v, now);
		else
			err = -EOPNOTSUPP;
		if (!err) {
			__set_bit(i, &v->done);
		} else if (open) {
			lu_event(d, LU_EV_REPLAY, err, "%s", names[i]);
			d->replay_failed++;
		}
	}
	if (e->complete)
		e->complete(dev);
	drop(now);
}
