// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/probation"
	lupatch "github.com/lupatch/lupatch/update"
)

// TestProbation: faults of a real kernel while an update is on probation.
func TestProbation(t *testing.T) {
	t.Parallel()
	g := boot(t, lab.Config{}, labtest.Allow(`lupatch_faulty|lufault|Call Trace:|refcount_t: addition on 0|at lib/refcount\.c|BUG: kernel NULL pointer|Oops: 0002|soft lockup|blocked for more than|livepatch: (pre-patch callback failed for object 'lutarget'|failed to enable patch 'lupatch_faulty')$`))
	g.insmod(g.putFile(target(t), "/root/lutarget.ko"))
	g.insmod(g.putFile(module(t, "fault", "fault", "lufault", nil), "/root/lufault.ko"))
	// As quick as they can be.
	g.sh("echo 1 > /proc/sys/kernel/watchdog_thresh; echo 2 > /proc/sys/kernel/hung_task_timeout_secs; echo 1 > /proc/sys/kernel/hung_task_check_interval_secs")
	g.run("callback refuses", probationRefused)
	g.run("health check", healthCheck)
	g.sample(2, "warning elsewhere", warningElsewhere)
	g.run("warning", func(g guest) {
		faulty(g, fault{does: "cat /proc/lutarget/value", kind: probation.Warning, says: "a warning in lutarget_value [lupatch_faulty] (task cat, ", evidence: "lutarget: a warning of the update"})
	})
	g.sample(2, "warning that the log has lost", warningLost)
	g.sample(2, "soft lockup", func(g guest) {
		faulty(g, fault{does: "cat /proc/lutarget/tail", kind: probation.SoftLockup, says: "a soft lockup in tail_show [lupatch_faulty] (task cat, ", evidence: "RIP: 0010:tail_show"})
	})
	g.sample(2, "hung task, by the kernel", func(g guest) {
		faulty(g, fault{does: "cat /proc/lutarget/cold", kind: probation.HungTask, says: "a hung task in cold_show [lupatch_faulty] (task cat, ", evidence: "INFO: task cat:"})
	})
	g.run("oops", func(g guest) {
		faulty(g, fault{does: "cat /proc/lutarget/helper", kind: probation.Oops, says: "an Oops in helper_show [lupatch_faulty] (task cat, ", evidence: "BUG: kernel NULL pointer dereference"})
	})
	// After an Oops the kernel looks for hung tasks no more.
	g.sample(2, "hung task, by itself", func(g guest) {
		faulty(g, fault{does: "cat /proc/lutarget/cold", kind: probation.HungTask, source: probation.FromTasks, says: "a hung task in cold_show [lupatch_faulty] (task cat, ", evidence: "cold_show [lupatch_faulty]"})
	})
	g.run("off", probationOff)
}

// fault is what a function of the update does.
type fault struct {
	does, says, evidence string
	kind                 probation.Kind
	source               string
}

type takenBack struct {
	TakenBack *struct {
		Cause string
		probation.Failure
	} `json:"taken_back"`
}

// faulty applies an update, lets it do something once it is on probation, and wants
// it taken back, with the evidence.
func faulty(g guest, f fault) {
	u := update(g.t, "faulty")
	g.openGate(false)
	// The health check of the beginning starts it; the first run is before loading.
	check := fmt.Sprintf("if [ -e /sys/kernel/livepatch/%s ] && [ ! -e /root/begun ]; then touch /root/begun; (%s > /root/read 2>&1; touch /root/ended) > /dev/null 2>&1 & fi", u.name, f.does)
	g.sh("rm -f /root/begun /root/ended")
	apply := g.background(g.t.Context(), "lupatch", "apply", "--json", "--probation", "11s", "--health-check", check, g.file(u))
	g.until("[ -e /root/begun ]")
	if f.kind == probation.HungTask {
		// The way back waits for the task, as it sleeps in the new code.
		g.awaitReversing(u.name, apply)
		g.openGate(true)
	}
	r := g.wait(apply)
	if r.Code != 6 {
		g.t.Fatalf("exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	var answer takenBack
	g.decode(r, &answer)
	b := answer.TakenBack
	if b == nil || len(b.Reports) == 0 {
		g.t.Fatalf("%s", r.Stdout)
	}
	first := b.Reports[0]
	if first.Kind != f.kind || f.source != "" && first.Source != f.source || len(first.Blame) != 1 || first.Blame[0].Update != u.name {
		g.t.Errorf("%+v", first)
	}
	if !strings.Contains(b.Cause, f.says) || !strings.Contains(string(r.Stderr), f.says) || !strings.Contains(strings.Join(first.Lines, "\n"), f.evidence) {
		g.t.Errorf("%s\n%q", r.Stderr, first.Lines)
	}
	g.wantStatus("")
	g.wantLoaded(u.name, false)
	g.until("[ -e /root/ended ]")
	g.wantShown("twin_a", "twin 202")
	g.t.Logf("after %s: %s", b.After.Round(1e8), b.Cause)
	g.sh("lupatch recover --unbar " + u.name + " || true")
}

// awaitReversing waits until the update is on its way back.
func (g guest) awaitReversing(name string, apply *lab.Process) {
	g.t.Helper()
	for {
		select {
		case <-apply.Done():
			r := g.wait(apply)
			g.t.Fatalf("it ended: %d\n%s%s", r.Code, r.Stdout, r.Stderr)
		default:
		}
		if summary(g.status()) == name+" "+lupatch.StateReversing {
			return
		}
	}
}

// probationRefused: nothing is loaded, so nothing comes on probation.
func probationRefused(g guest) {
	u := update(g.t, "faulty")
	g.sh("echo 13 > /sys/module/lutarget/parameters/one")
	g.refused(refuse.LoadRefused, []string{u.name}, "apply", "--probation", "30s", g.file(u))
	g.sh("echo 1 > /sys/module/lutarget/parameters/one")
	g.wantStatus("")
	g.wantLoaded(u.name, false)
}

// healthCheck: one that the update lets fail, and one that fails anyway.
func healthCheck(g guest) {
	u := update(g.t, "value")
	check := `v=$(cat /proc/lutarget/value); echo "it says $v"; [ "$v" = "` + oldValue + `" ]`
	r := g.lupatch("apply", "--probation", "30s", "--health-check", check, g.file(u))
	var answer takenBack
	g.decode(r, &answer)
	if b := answer.TakenBack; r.Code != 6 || b == nil || b.Health == nil || strings.Join(b.Health.Output, "") != "it says "+newValue || b.Health.Reason != "status 1" {
		g.t.Fatalf("exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	g.wantStatus("")
	g.wantShown("value", oldValue)
	g.refused(refuse.HealthCheck, []string{"status 1"}, "apply", "--probation", "30s", "--health-check", "false", g.file(u))
	g.wantLoaded(u.name, false)
}

// warningElsewhere: faults of another module are reported, and that is all.
func warningElsewhere(g guest) {
	u := update(g.t, "value")
	const does = "/sys/module/lufault/parameters/do"
	check := "[ ! -e /sys/kernel/livepatch/" + u.name + " ] || [ -e /root/warned ] || { touch /root/warned; echo warn > " + does + "; echo refcount > " + does + "; }"
	var answer struct{ Applied []lupatch.Result }
	g.succeed(&answer, "apply", "--probation", "4s", "--health-check", check, g.file(u))
	out := answer.Applied[0].Probation
	if out == nil || len(out.Blind) > 0 || out.Lost > 0 || len(out.Reports) != 2 || len(out.Taint) != 1 || out.Taint[0].Letter != "W" {
		g.t.Fatalf("%+v", out)
	}
	if r := out.Reports[0]; r.Kind != probation.Warning || r.Function.String() != "fault_warn [lufault]" || r.Comm != "sh" || len(r.Lines) < 20 {
		g.t.Errorf("%+v", r)
	}
	if r := out.Reports[1]; r.Kind != probation.Refcount {
		g.t.Errorf("%+v", r)
	}
	g.wantStatus(u.name + " applied")
	g.wantShown("value", newValue)
	g.rollback()
}

// warningLost: while lupatch stands still, an update warns and the log is overwritten.
// The tracepoint has kept it.
func warningLost(g guest) {
	u := update(g.t, "faulty")
	apply := g.background(g.t.Context(), "lupatch", "apply", "--json", "--probation", "2m", "--health-check", "true", g.file(u))
	g.until(`grep -q '"step":"probation"' /var/lib/lupatch/journal && [ "$(cat /sys/kernel/livepatch/` + u.name + `/transition)" = 0 ]`)
	g.sh(fmt.Sprintf("kill -STOP %d", apply.PID))
	g.sh("cat /proc/lutarget/value")
	g.sh(`echo on > /proc/sys/kernel/printk_devkmsg
line=$(head -c 900 /dev/zero | tr '\0' x)
while dmesg | grep -q 'a warning of the update'; do
	i=0
	while [ $i -lt 100 ]; do echo "<7>$line" > /dev/kmsg; i=$((i+1)); done
done`)
	g.sh(fmt.Sprintf("kill -CONT %d", apply.PID))
	r := g.wait(apply)
	var answer takenBack
	g.decode(r, &answer)
	b := answer.TakenBack
	if r.Code != 6 || b == nil || len(b.Reports) != 1 || b.Seen.Lost == 0 {
		g.t.Fatalf("exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if first := b.Reports[0]; first.Source != probation.FromTrace || first.Kind != probation.Warning || first.Function.String() != "lutarget_value [lupatch_faulty]" || first.Comm != "cat" {
		g.t.Errorf("%+v", first)
	}
	g.wantStatus("")
	g.t.Logf("%d messages lost: %s", b.Seen.Lost, b.Cause)
	g.sh("lupatch recover --unbar " + u.name + " || true")
}

// probationOff: nobody watches, and the update stays whatever it does.
func probationOff(g guest) {
	u := update(g.t, "faulty")
	g.succeed(&struct{}{}, "apply", "--probation", "0", g.file(u))
	g.sh("cat /proc/lutarget/value")
	g.wantStatus(u.name + " applied")
	g.rollback()
	g.wantStatus("")
}
