// SPDX-License-Identifier: Apache-2.0

package live

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/shadow"
	"github.com/lupatch/lupatch/shadow/shadowtest"
)

// hooked lists the functions that ftrace says are hooked, by whomever.
const hooked = "sed 's/ .*//' /sys/kernel/tracing/enabled_functions | sort"

// perPacket are functions that every packet passes.
var perPacket = []string{"dev_hard_start_xmit", "netdev_core_pick_tx"}

// TestDriverIdle compares what ftrace says is hooked with what lupatch_shadow says,
// idle, while a driver is replaced, and after: nothing that a packet passes is hooked
// but while it has to be.
func TestDriverIdle(t *testing.T) {
	t.Parallel()
	c := virtio
	g := driverHost(t, lab.Config{Files: []lab.File{{Path: "/root/lupatch-crash", Host: crashing(t), Mode: 0o755}}}, c)
	g.sh("mount -t tracefs tracefs /sys/kernel/tracing 2> /dev/null || [ -e /sys/kernel/tracing/enabled_functions ]")

	loaded := []string{"alloc_netdev_mqs", "free_netdev"}
	g.wantHooked("idle", loaded)
	g.doctorNames(loaded)

	file := g.variant(c, shadowtest.Newer)
	gap := "after driver disabled done:" + hooked + " > /root/gap; lupatch shadow status --json > /root/gap.json"
	r, err := g.Run(t.Context(), lab.Cmd{Argv: []string{"/root/lupatch-crash", "apply", "--yes", "--probation", "0", file}, Env: []string{"LUPATCH_POINT_RUN=" + gap}, Timeout: commandTime})
	if err != nil || r.Code != 0 {
		t.Fatalf("%v: %+v", err, r)
	}
	var info shadow.Info
	if err := json.Unmarshal([]byte(g.sh("cat /root/gap.json")), &info); err != nil {
		t.Fatal(err)
	}
	during := strings.Fields(g.sh("cat /root/gap"))
	if want := enabledHooks(&info); !slices.Equal(during, want) {
		t.Errorf("during a replacement ftrace has %q, lupatch_shadow says %q", during, want)
	}
	for _, f := range append(slices.Clone(perPacket), "rtnl_lock", "register_netdevice") {
		if !slices.Contains(during, f) {
			t.Errorf("during a replacement %s is not hooked", f)
		}
	}
	if info.Session == 0 {
		t.Error("during a replacement lupatch_shadow has no session")
	}

	carried := append([]string{"dev_get_stats"}, loaded...)
	slices.Sort(carried)
	g.wantHooked("after the replacement", carried)
	g.doctorNames(carried)
	// Its operations are the driver's: the impersonator has a name of its own.
	if out := g.sh("readlink /sys/class/net/eth0/device/driver; cat /sys/class/net/eth0/carrier"); out != "../../../../bus/virtio/drivers/virtio_net\n1" && !strings.HasSuffix(strings.Fields(out)[0], "/virtio_net") {
		t.Errorf("eth0 has %q", out)
	}
	t.Log(g.sh("lupatch rollback --yes " + c.module))
	g.wantHooked("after the rollback", carried)

	// The module cannot go while the counters would fall back; with the last device it can.
	if r, err := g.Sh(t.Context(), "rmmod lupatch_shadow"); err != nil || r.Code == 0 {
		t.Errorf("lupatch_shadow was unloaded though it carries counters on: %v", err)
	}
	g.rmmod(c.module)
	g.rmmod("lupatch_shadow")
	if out := g.sh(hooked); out != "" {
		t.Errorf("lupatch_shadow is gone, and ftrace has %q", out)
	}
}

// enabledHooks are the functions that lupatch_shadow says it hooks, in order.
func enabledHooks(i *shadow.Info) (out []string) {
	for _, h := range i.Hooks {
		if h.Enabled {
			out = append(out, h.Name)
		}
	}
	slices.Sort(out)
	return out
}

// wantHooked wants ftrace and lupatch_shadow to name the same functions, and no other
// than these.
func (g guest) wantHooked(when string, want []string) {
	g.t.Helper()
	var info shadow.Info
	if err := json.Unmarshal([]byte(g.sh("lupatch shadow status --json")), &info); err != nil {
		g.t.Fatal(err)
	}
	told, real := enabledHooks(&info), strings.Fields(g.sh(hooked))
	if !slices.Equal(told, want) || !slices.Equal(real, want) {
		g.t.Errorf("%s: lupatch_shadow says %q, ftrace %q, want %q", when, told, real, want)
	}
	for _, f := range perPacket {
		if slices.Contains(real, f) {
			g.t.Errorf("%s: every packet passes a hook on %s", when, f)
		}
	}
	if info.Session != 0 {
		g.t.Errorf("%s: a session is open", when)
	}
}

// doctorNames wants the doctor to list exactly these hooks.
func (g guest) doctorNames(want []string) {
	g.t.Helper()
	r := g.lupatch("doctor")
	var report struct {
		Checks []struct{ Name, Status, Detail string }
	}
	g.decode(r, &report)
	for _, c := range report.Checks {
		if c.Name != "shadow" {
			continue
		}
		names, _, _ := strings.Cut(strings.TrimPrefix(c.Detail, "loaded; it hooks "), ";")
		got := strings.Split(names, ", ")
		slices.Sort(got)
		if !slices.Equal(got, want) || c.Status != "ok" {
			g.t.Errorf("the doctor says %+v, want the hooks %q", c, want)
		}
		return
	}
	g.t.Errorf("the doctor says nothing of the shadow:\n%s", r.Stdout)
}
