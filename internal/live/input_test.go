// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/refuse"
)

// imprint is all that must not change: modules, livepatches, hooks, store and journal.
func (g guest) imprint() string {
	g.t.Helper()
	return g.sh(`cut -d' ' -f1 /proc/modules | sort
ls -R /sys/kernel/livepatch
cat /sys/kernel/tracing/enabled_functions
cd /var/lib/lupatch && find . -type f ! -name 'fill*' -exec md5sum {} + | sort -k2`)
}

// fails wants a command to end with a code and one line that has the words, and
// nothing to have changed.
func (g guest) fails(code int, words []string, script string) {
	g.t.Helper()
	before := g.imprint()
	r, err := g.Sh(g.t.Context(), script)
	if err != nil {
		g.t.Fatal(err)
	}
	line, rest, _ := strings.Cut(strings.TrimSpace(string(r.Stderr)), "\n")
	if r.Code != code || rest != "" && !strings.HasPrefix(rest, "remedy: ") || strings.Count(rest, "\n") > 0 {
		g.t.Errorf("%s: exit code %d, want %d and one line\n%s", script, r.Code, code, r.Stderr)
	}
	for _, w := range words {
		if !strings.Contains(line, w) {
			g.t.Errorf("%s: %q does not mention %q", script, line, w)
		}
	}
	if after := g.imprint(); after != before {
		g.t.Errorf("%s: before\n%s\nafter\n%s", script, before, after)
	}
}

// TestBadHost: a host on which an update cannot be applied, and updates that are not
// what they say. Those that are damaged, for another kernel or on another version are
// in flow_test.go.
func TestBadHost(t *testing.T) {
	t.Parallel()
	labtest.SkipIfShort(t)
	value, crypto, shipped := update(t, "value"), update(t, "crypto"), update(t, "shipped")
	g := boot(t, lab.Config{CPUs: 2, Disks: []lab.Disk{{Model: "virtio", Image: ext4(t, "8M")}}, Modules: []string{"ext4"}})
	g.sh("mkdir -p /var/lib/lupatch && mount -t ext4 /dev/vda /var/lib/lupatch")
	g.insmod(g.putFile(target(t), "/root/lutarget.ko"))
	file := g.file(value)
	apply := "lupatch apply --yes " + file
	// A journal that has something in it, and a store.
	g.apply(crypto)

	g.run("other manifest", func(g guest) {
		// What was digested anew is not damaged.
		other := g.put(value.altered(g.t, `"name": "lupatch_value"`, `"name": "lupatch_valux"`), "/root/other.ko")
		g.fails(refuse.ExitCode, []string{"not-an-update", "its manifest is that of lupatch_valux, the module is lupatch_value"}, "lupatch apply --yes "+other)
		more := g.put(value.altered(g.t, `"name": "lutarget_value"`, `"name": "lutarget_valux"`), "/root/more.ko")
		r := g.lupatch("apply", more)
		g.checkRefusal(r, refuse.NotAnUpdate, "its manifest says that it replaces lutarget_valux of lutarget, and the module does not")
		g.wantStatus("lupatch_crypto applied")
		g.wantLoaded(value.name, false)
		g.wantShown("value", oldValue)
	})
	g.run("not root", func(g guest) {
		g.sh(`echo 'nobody:x:65534:65534::/:/bin/sh' > /etc/passwd; chmod 755 /root; chmod 644 ` + file)
		g.fails(refuse.ExitCode, []string{"not-permitted", "cannot be"}, "su nobody -c '"+apply+"'")
		g.fails(refuse.ExitCode, []string{"not-permitted", "cannot be"}, "su nobody -c 'lupatch rollback --yes'")
		g.fails(refuse.ExitCode, []string{"not-permitted", "cannot be"}, "su nobody -c 'lupatch recover'")
	})
	g.run("read-only", func(g guest) {
		g.sh("mount -o remount,ro /var/lib/lupatch")
		defer g.sh("mount -o remount,rw /var/lib/lupatch")
		g.fails(1, []string{"failed: opening the journal", "read-only file system"}, apply)
		g.fails(1, []string{"failed: opening the journal", "read-only file system"}, "lupatch rollback --yes")
	})
	g.run("full", func(g guest) {
		// The journal has its room, and there is next to nothing beside it; then a journal
		// without room.
		g.sh("cd /var/lib/lupatch; dd if=/dev/zero of=fill bs=1k count=$(( $(df -k . | awk 'END { print $4 }') - 8 )) 2>/dev/null; sync")
		r := g.lupatch("apply", file)
		if r.Code != 1 || !strings.Contains(string(r.Stderr), "failed: storing update lupatch_value") || !strings.Contains(string(r.Stderr), "no space left on device") {
			g.t.Errorf("exit code %d\n%s", r.Code, r.Stderr)
		}
		g.wantStatus("lupatch_crypto applied")
		if s := g.status(); len(s.Open) > 0 {
			g.t.Errorf("open: %+v", s.Open)
		}
		g.sh("cd /var/lib/lupatch; rm fill; cp journal fill.1; mv journal fill.2; mv fill.1 journal; dd if=/dev/zero of=fill bs=1k 2>/dev/null; sync")
		g.fails(1, []string{"failed: making room for the journal", "no space left on device"}, apply)
		g.fails(1, []string{"failed: making room for the journal"}, "lupatch rollback --yes")
		g.sh("rm /var/lib/lupatch/fill*")
		g.apply(value)
		g.wantShown("value", newValue)
		g.rollback()
	})
	g.run("two at once", func(g guest) {
		g.sleep("shipped", "shipped_show")
		first := g.background(g.t.Context(), "lupatch", "apply", "--json", "--deadline", "1m", g.file(shipped))
		g.until(`[ "$(cat /sys/kernel/livepatch/lupatch_shipped/transition 2>/dev/null)" = 1 ]`)
		for _, verb := range []string{apply, "lupatch rollback --yes", "lupatch recover"} {
			r, err := g.Sh(g.t.Context(), verb)
			if err != nil || r.Code != refuse.ExitCode || !strings.Contains(string(r.Stderr), fmt.Sprintf("another lupatch is at work (process %d)", first.PID)) {
				g.t.Errorf("%s: %v %+v", verb, err, r)
			}
		}
		g.openGate(true)
		if r := g.wait(first); r.Code != 0 {
			g.t.Errorf("%+v", r)
		}
		g.rollback()
	})
}
