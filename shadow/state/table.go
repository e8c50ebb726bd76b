// SPDX-License-Identifier: Apache-2.0

package state

// query is one of ethtool's messages that read a setting, and the names of its
// attributes by number (include/uapi/linux/ethtool_netlink.h; numbers are fixed for
// ever). An attribute that is not in the list is one of a newer kernel; it is kept
// under its number. Those called "-" change by themselves.
type query struct {
	setting string
	message uint8
	fields  []string // from 2 on: 1 is the header
}

const linkModes = "link modes"

var queries = []query{
	{"link", 2, []string{"port", "phy", "-", "mdix", "transceiver"}},
	{linkModes, 4, []string{"autoneg", "advertised", "-", "speed", "duplex", "master-slave", "-", "lanes", "-"}},
	{"messages", 7, []string{"mask"}},
	{"wake-on-lan", 9, []string{"modes", "password"}},
	{"features", 11, []string{"hw", "wanted", "active", "fixed"}},
	{"private flags", 13, []string{"flags"}},
	{"rings", 15, []string{"rx-max", "rx-mini-max", "rx-jumbo-max", "tx-max", "rx", "rx-mini", "rx-jumbo", "tx",
		"rx-buf-len", "tcp-data-split", "cqe-size", "tx-push", "rx-push", "tx-push-buf-len", "tx-push-buf-len-max",
		"hds-thresh", "hds-thresh-max"}},
	{"channels", 17, []string{"rx-max", "tx-max", "other-max", "combined-max", "rx", "tx", "other", "combined"}},
	{"coalesce", 19, []string{"rx-usecs", "rx-frames", "rx-usecs-irq", "rx-frames-irq",
		"tx-usecs", "tx-frames", "tx-usecs-irq", "tx-frames-irq", "stats-block-usecs", "adaptive-rx", "adaptive-tx",
		"pkt-rate-low", "rx-usecs-low", "rx-frames-low", "tx-usecs-low", "tx-frames-low",
		"pkt-rate-high", "rx-usecs-high", "rx-frames-high", "tx-usecs-high", "tx-frames-high", "sample-interval",
		"cqe-mode-tx", "cqe-mode-rx", "tx-aggr-max-bytes", "tx-aggr-max-frames", "tx-aggr-usecs", "rx-profile", "tx-profile"}},
	{"pause", 21, []string{"autoneg", "rx", "tx", "-", "source"}},
	{"eee", 23, []string{"advertised", "-", "-", "enabled", "tx-lpi", "tx-lpi-timer"}},
	// The number of the PTP clock is new each time, its statistics count.
	{"time stamping", 25, []string{"capabilities", "tx-types", "rx-filters", "-", "-", "-"}},
	{"fec", 29, []string{"modes", "auto", "-", "-"}},
	{"module", 34, []string{"power-policy", "-"}},
}
