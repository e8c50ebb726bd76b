// SPDX-License-Identifier: Apache-2.0

package live

import (
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/shadow/shadowtest"
)

// TestDriverService replaces a driver where systemd is process 1: the work is a service
// of its own, which neither a relative path nor the death of who waits for it disturbs,
// and the host is kept awake meanwhile.
func TestDriverService(t *testing.T) {
	t.Parallel()
	g := driverHost(t, lab.Config{Systemd: true, Memory: 768, Files: []lab.File{{Path: "/root/lupatch-crash", Host: crashing(t), Mode: 0o755}}}, virtio)
	old := g.driverID(virtio)
	ko := g.variant(virtio, shadowtest.Newer)

	const look = `after driver disabled done:cat /proc/$PPID/cgroup > /root/cgroup; cat /proc/$PPID/oom_score_adj >> /root/cgroup; ` +
		`systemd-inhibit --list > /root/awake; kill -9 $(cat /root/waiting)`
	out := g.sh(`cd ` + ko[:strings.LastIndex(ko, "/")] + `
LUPATCH_POINT_RUN='` + look + `' /root/lupatch-crash apply --yes --probation 0 virtio_net.ko >/root/out 2>&1 &
echo $! >/root/waiting; wait $!; echo "status $?"
until /root/lupatch-crash status | grep -q virtio_net; do sleep 0.2; done; /root/lupatch-crash status`)
	if !strings.Contains(out, "status 137") {
		t.Errorf("who waited was not killed: %s\n%s", out, g.sh("cat /root/out"))
	}
	if got := g.sh("cat /root/cgroup"); !strings.Contains(got, "/system.slice/lupatch-driver-") || !strings.HasSuffix(got, "\n-1000") {
		t.Errorf("the work was done in %q", got)
	}
	if got := g.sh("cat /root/awake"); !strings.Contains(got, "lupatch") || !strings.Contains(got, "sleep") || !strings.Contains(got, "block") {
		t.Errorf("who keeps the host awake: %s", got)
	}
	newer := g.driverID(virtio)
	if newer == old {
		t.Fatal("the driver was not replaced")
	}

	g.sh("lupatch rollback --yes virtio_net")
	if id := g.driverID(virtio); id != old {
		t.Errorf("the driver that runs is %s, not %s", id, old)
	}
	if got := g.sh("systemd-inhibit --list --no-legend; systemctl list-units --no-legend 'lupatch-driver-*'"); strings.Contains(got, "lupatch") {
		t.Errorf("left behind: %s", got)
	}
	// Ctrl-C reaches the service, which takes back what it has begun.
	r, err := g.Sh(t.Context(), `LUPATCH_POINT_RUN='after driver captured done:kill -INT $(cat /root/waiting); until grep -q "passed on" /root/out; do sleep 0.1; done' /root/lupatch-crash --debug apply --yes --probation 0 `+ko+` >/root/out 2>&1 &
echo $! >/root/waiting; wait $!`)
	if err != nil {
		t.Fatal(err)
	}
	if id := g.driverID(virtio); r.Code == 0 || id != old {
		t.Errorf("interrupted: status %d, driver %s instead of %s\n%s", r.Code, id, old, g.sh("cat /root/out"))
	}
}
