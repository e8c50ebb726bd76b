// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/sample"
)

// TestLabSystemd has systemd as process 1, which runs services and knows who keeps the
// machine from suspending.
func TestLabSystemd(t *testing.T) {
	t.Parallel()
	sample.OnlyThorough(t, "TestDriverService has services and logind at work")
	h := labtest.Boot(t, lab.Config{Systemd: true})
	for _, c := range []struct{ script, want string }{
		{"cat /proc/1/comm", "systemd"},
		{"systemd-run --pipe --wait --quiet cat /proc/self/cgroup", "/system.slice/run-"},
		{"systemd-inhibit --what=sleep --who=me systemd-inhibit --list", "me "},
	} {
		if got := labtest.Sh(t, h, c.script); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q", c.script, got)
		}
	}
}
