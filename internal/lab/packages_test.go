// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/deb"
	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/lab/userland"
)

// TestLabPackages runs Debian's own network tools in a lab host, udev and
// networkd among them, which gets its lease from QEMU.
func TestLabPackages(t *testing.T) {
	t.Parallel()
	h := labtest.Boot(t, lab.Config{
		NICs:          []lab.NIC{{Model: "virtio-net-pci"}},
		Packages:      lab.NetworkTools,
		Available:     []string{"nf_tables", "af_packet"},
		Cmdline:       []string{"net.ifnames=0"},
		ManualNetwork: true,
		Files:         []lab.File{{Path: "/etc/systemd/network/10-lab.network", Data: []byte("[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n")}},
	})
	for _, c := range []struct{ script, want string }{
		{"ip -V", "iproute2"},
		{"tc -V", "iproute2"},
		{"bridge -V", "bridge utility"},
		{"ethtool --version", "ethtool version 6"},
		{"nft --version", "nftables v1"},
		{"tcpdump --version 2>&1", "libpcap"},
		{"udevadm --version", "25"},
		{"networkctl --version", "systemd 25"},
		{"ip -d link show eth0", "numtxqueues"}, // what busybox's ip does not say
		{"ethtool -i eth0", "driver: virtio_net"},
		{"nft add table ip lab && nft list tables", "table ip lab"},
		{"ls -l /bin/sed", "busybox"}, // which no package replaced
	} {
		if got := labtest.Sh(t, h, c.script); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q", c.script, got)
		}
	}
	labtest.Sh(t, h, "/lib/systemd/systemd-udevd --daemon && udevadm trigger --action=add --subsystem-match=net && udevadm settle")
	labtest.Sh(t, h, "mkdir -p /run/systemd; (/lib/systemd/systemd-networkd > /var/log/networkd 2>&1 &)")
	got := labtest.Sh(t, h, "for i in $(seq 300); do ip -4 addr show dev eth0 | grep -q inet && break; sleep 0.1; done; ip -4 addr show dev eth0; cat /run/systemd/netif/leases/* /var/log/networkd")
	if !strings.Contains(got, "10.0.2.15/24") || !strings.Contains(got, "SERVER_ADDRESS=10.0.2.2") || !strings.Contains(got, "dynamic") {
		t.Errorf("no lease: %s", got)
	}
	// All of it is in the guest's memory.
	if got := labtest.Sh(t, h, "du -smxc /lib /usr /bin /lib64 | tail -n 1"); len(got) > len("99\ttotal") {
		t.Errorf("the guest's programs take %s MB", got)
	}
}

// TestLabPackagesMissing: a package that there is not is said by name.
func TestLabPackagesMissing(t *testing.T) {
	labtest.SkipIfShort(t)
	cache, err := deb.New("")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := userland.Collect(t.Context(), cache, []string{"no-such-package-of-debian"}); !deb.IsUnavailable(err) || !strings.Contains(err.Error(), "no-such-package") {
		t.Errorf("got %v", err)
	}
}
