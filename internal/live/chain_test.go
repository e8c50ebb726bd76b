// SPDX-License-Identifier: Apache-2.0

package live

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/sample"
	lupatch "github.com/lupatch/lupatch/update"
)

// chainLength is how many updates stand on each other; cumulative is the version
// of the one that carries the first three, and says so with its number.
const (
	chainLength = 5
	cumulative  = 9
)

// atVersion is the source of the target's first file. From version 1 on a caller
// says which one it is, and asks another function of the update before and after
// a sleep: what they say has to agree. Versions 2 and 3 change one more function
// each.
func atVersion(t testing.TB, version int) string {
	t.Helper()
	b, err := os.ReadFile("testdata/target/lutarget_a.c")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	change := func(old, new string) {
		if strings.Count(text, old) != 1 {
			t.Fatalf("%q occurs %d times", old, strings.Count(text, old))
		}
		text = strings.Replace(text, old, new, 1)
	}
	if version >= 1 {
		change("\treturn n * LUTARGET_VALUE;\n", fmt.Sprintf("\treturn n * LUTARGET_VALUE + %d;\n", 1000*version))
		change("\tseq_printf(m, \"value %d\\n\", lutarget_value(READ_ONCE(lutarget_one)));\n",
			fmt.Sprintf("\tint before = lutarget_value(READ_ONCE(lutarget_one));\n\n\tschedule_timeout_uninterruptible(1);\n\tseq_printf(m, \"value %%d %%d of version %d\\n\", before, lutarget_value(READ_ONCE(lutarget_one)));\n", version))
	}
	if version >= 2 {
		change(`"tail %d\n"`, `"tail %d of version 2\n"`)
	}
	if version >= 3 {
		change(`"cold %d\n"`, `"cold %d of version 3\n"`)
	}
	return text
}

// says is what a reader sees at a version.
func says(version int) string {
	if version == 0 {
		return oldValue
	}
	return fmt.Sprintf("value %d %d of version %d", 11+1000*version, 11+1000*version, version)
}

// step builds the update that takes the target from what the updates below make
// of it to a version.
func step(t testing.TB, version int, below ...built) built {
	t.Helper()
	name := fmt.Sprintf("lupatch_v%d", version)
	file := made.get(t, name, func(ctx context.Context, dir string) (string, error) {
		_, patch, _ := bytes.Cut(diff.Diff("a/lutarget_a.c", []byte(atVersion(t, len(below))), "b/lutarget_a.c", []byte(atVersion(t, version))), []byte("\n"))
		opt := build.Options{Patch: filepath.Join(dir, "step.patch"), Dir: filepath.Dir(target(t)), Release: labtest.Release,
			Name: name, Output: filepath.Join(dir, name+".ko"), Cumulative: version == cumulative}
		for _, b := range below {
			opt.On = append(opt.On, b.file)
		}
		if err := os.WriteFile(opt.Patch, patch, 0o644); err != nil {
			return "", err
		}
		res, err := build.Run(ctx, opt)
		if err != nil {
			return "", err
		}
		return res.Path, nil
	})
	image, m, err := manifest.ReadModule(file)
	if err != nil {
		t.Fatal(err)
	}
	return built{name: name, file: file, image: image, manifest: m}
}

// readers read the target's file all the time, two on each processor. Each notes
// what it reads whenever that is something else than before.
type readers struct {
	g    guest
	want []int // the versions so far
}

const readersPerCPU = 2

func startReaders(g guest, version int) *readers {
	g.sh(`cat > /tmp/hammer.awk <<'END'
BEGIN {
	while ((getline enough < "/tmp/enough") < 0) {
		for (i = 0; i < 20; i++) {
			line = "nothing"
			getline line < f
			close(f)
			n++
			if (line != last) { print line >> log_to; close(log_to); last = line }
		}
		close("/tmp/enough")
	}
	print n > (log_to ".count")
}
END
rm -f /tmp/enough /tmp/read.*
for cpu in 0 1; do
	for i in $(seq ` + strconv.Itoa(readersPerCPU) + `); do
		taskset $((1 << cpu)) awk -v f=/proc/lutarget/value -v log_to=/tmp/read.$cpu.$i -f /tmp/hammer.awk > /dev/null 2>&1 &
	done
done`)
	r := &readers{g: g}
	r.see(version)
	return r
}

// see waits until every reader sees a version.
func (r *readers) see(version int) {
	r.g.t.Helper()
	r.want = append(r.want, version)
	r.g.until(fmt.Sprintf(`[ "$(for f in /tmp/read.*; do tail -n 1 $f; done | grep -cx '%s')" = %d ]`, says(version), 2*readersPerCPU))
}

// stop ends the readers and checks that each saw every version in turn, and
// nothing else.
func (r *readers) stop() {
	r.g.t.Helper()
	r.g.sh(fmt.Sprintf(`echo > /tmp/enough; until [ "$(ls /tmp/read.*.count 2>/dev/null | wc -l)" = %d ]; do usleep 50000; done`, 2*readersPerCPU))
	var want []string
	for _, v := range r.want {
		want = append(want, says(v))
	}
	reads := 0
	for cpu := range 2 {
		for i := range readersPerCPU {
			log := fmt.Sprintf("/tmp/read.%d.%d", cpu, i+1)
			if got := strings.Split(strings.TrimSpace(r.g.sh("cat "+log)), "\n"); !slices.Equal(got, want) {
				r.g.t.Errorf("a reader on processor %d saw\n%s\nwant\n%s", cpu, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			n, err := strconv.Atoi(strings.TrimSpace(r.g.sh("cat " + log + ".count")))
			if err != nil {
				r.g.t.Fatal(err)
			}
			reads += n
		}
	}
	r.g.t.Logf("%d readers, %d reads, %d changes of version; each saw one version at a time", 2*readersPerCPU, reads, len(want)-1)
}

func (g guest) wantVersion(want int) {
	g.t.Helper()
	s := g.status()
	got := 0
	for _, u := range s.Units {
		if u.Unit == "lutarget" {
			got = u.Version
		}
	}
	if got != want || len(s.Missing) > 0 {
		g.t.Errorf("lutarget is at version %d, want %d; %v", got, want, s.Missing)
	}
}

// transitions counts what the kernel says of the transitions of a livepatch.
func (g guest) transitions(name, which string) int {
	g.t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(g.sh(fmt.Sprintf("dmesg | grep -c \"livepatch: '%s': starting %s transition\" || true", name, which))))
	if err != nil {
		g.t.Fatal(err)
	}
	return n
}

// TestChain: updates on top of each other, all of them on one function.
func TestChain(t *testing.T) {
	t.Parallel()
	labtest.SkipIfShort(t)
	length := chainLength
	if !sample.Thorough() {
		length = 3
	}
	var chain []built
	for v := 1; v <= length; v++ {
		chain = append(chain, step(t, v, chain...))
	}
	all := step(t, cumulative, chain[:3]...)
	for name, u := range map[string]built{"the last": chain[length-1], "the cumulative one": all} {
		got := map[string]bool{}
		for _, f := range []string{"value_show", "lutarget_value", "tail_show", "cold_show"} {
			got[f] = u.function("lutarget", f) >= 0
		}
		more := u.manifest.Cumulative
		if !got["value_show"] || !got["lutarget_value"] || got["tail_show"] != more || got["cold_show"] != (more || u.name == "lupatch_v3") {
			t.Errorf("%s replaces %v", name, got)
		}
	}
	g := boot(t, lab.Config{CPUs: 2})
	g.insmod(g.putFile(target(t), "/root/lutarget.ko"))
	var files []string
	for _, u := range chain {
		files = append(files, g.file(u))
	}
	g.run("refused out of order", func(g guest) {
		g.refused(refuse.WrongVersion, []string{"lupatch_v2", "stands on the update lupatch_v1, which is not applied"}, "apply", files[1])
		g.refused(refuse.WrongVersion, []string{"lupatch_v3", "stands on the update lupatch_v2"}, "apply", files[0], files[2])
		g.wantStatus("")
	})
	g.run("up and down", func(g guest) {
		r := startReaders(g, 0)
		for i, u := range chain {
			g.apply(u)
			r.see(i + 1)
			g.wantVersion(i + 1)
			g.refused(refuse.AlreadyApplied, []string{u.name}, "apply", files[i])
		}
		stand := fmt.Sprintf("lupatch_v%d, lupatch_v%d stand on it", length, length-1)
		g.refused(refuse.NotNewest, []string{stand}, "rollback", fmt.Sprintf("lupatch_v%d", length-2))
		for i := length - 1; i >= 0; i-- {
			if res := g.rollback(); res.Update != chain[i].name || res.Resident != "" {
				g.t.Errorf("rolled back: %+v", res)
			}
			r.see(i)
			g.wantVersion(i)
		}
		r.stop()
		g.wantStatus("")
	})
	g.run("cumulative", func(g guest) {
		g.apply(chain[:3]...)
		r := startReaders(g, 3)
		g.wantShown("tail", "tail 1 of version 2")
		g.apply(all)
		r.see(cumulative)
		g.wantVersion(4)
		g.wantShown("tail", "tail 1 of version 2")
		g.wantShown("cold", "cold 1 of version 3")
		g.rollback()
		r.see(3)
		g.wantVersion(3)
		g.apply(all)
		r.see(cumulative)
		g.rollback()
		r.see(3)
		r.stop()
		if p, u := g.transitions(all.name, "patching"), g.transitions(all.name, "unpatching"); p != 2 || u != 2 {
			g.t.Errorf("applied and taken back twice, it made %d transitions and %d back", p, u)
		}
	})
	g.run("several back at once", func(g guest) {
		g.refused(refuse.NotNewest, []string{"lupatch_v3, lupatch_v2 stand on it"}, "rollback", "lupatch_v1")
		var answer struct {
			Back []lupatch.Result `json:"rolled_back"`
		}
		g.succeed(&answer, "rollback", "--yes", "lupatch_v2")
		if len(answer.Back) != 2 || answer.Back[0].Update != "lupatch_v3" || answer.Back[1].Update != "lupatch_v2" {
			g.t.Errorf("taken back: %+v", answer.Back)
		}
		g.wantShown("value", says(1))
		g.wantShown("tail", "tail 1")
		g.wantVersion(1)
		g.rollback()
		g.wantShown("value", says(0))
	})
	g.run("module comes later", func(g guest) {
		g.rmmod("lutarget")
		g.apply(chain[:2]...)
		g.insmod("/root/lutarget.ko")
		g.wantShown("value", says(2))
		g.wantShown("tail", "tail 1 of version 2")
		g.wantVersion(2)
	})
}
