// SPDX-License-Identifier: Apache-2.0

package live

import (
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/lab"
)

// The tracepoints of a module, in a function of it that is replaced: off, they
// record nothing; on, the new code passes through them as the old one did.
func TestTracepointsOfModule(t *testing.T) {
	t.Parallel()
	u := update(t, "keys")
	g := boot(t, lab.Config{Available: []string{"mac80211_hwsim"}})
	if err := g.Modprobe(t.Context(), "mac80211_hwsim", "radios=1"); err != nil {
		t.Fatal(err)
	}
	// start says what the kernel printed and how often it was traced.
	said, traced := 0, 0
	start := func(what string, wantSaid, wantTraced int) {
		t.Helper()
		g.sh("ip link set wlan0 up && ip link set wlan0 down")
		nowSaid := strings.Count(g.sh("dmesg"), "lupatch: phy0 starts")
		nowTraced := strings.Count(g.sh("cat /sys/kernel/tracing/trace"), ": drv_start:")
		if nowSaid-said != wantSaid || nowTraced-traced != wantTraced {
			t.Errorf("%s: said %d times, traced %d times; want %d, %d", what, nowSaid-said, nowTraced-traced, wantSaid, wantTraced)
		}
		said, traced = nowSaid, nowTraced
	}
	trace := func(on string) { g.sh("echo " + on + " > /sys/kernel/tracing/events/mac80211/drv_start/enable") }

	start("shipped code", 0, 0)
	trace("1")
	start("shipped code, traced", 0, 1)
	g.apply(u)
	start("key already set when the update came", 1, 1)
	trace("0")
	start("not traced", 1, 0)
	trace("1")
	start("traced again", 1, 1)
	g.rollback()
	start("taken back", 0, 1)
}
