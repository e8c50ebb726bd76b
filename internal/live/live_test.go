// SPDX-License-Identifier: Apache-2.0

// Package live tests whole updates on real kernels: built from patches, loaded
// into a lab host, looked at from outside, taken back. There is nothing but
// tests in it.
package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/sample"
	lupatch "github.com/lupatch/lupatch/update"
)

func TestMain(m *testing.M) {
	var err error
	if made.dir, err = os.MkdirTemp("", "lupatch-live-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(made.dir)
	os.Exit(code)
}

// hosts bounds the lab hosts that run at once: each keeps a core busy.
var hosts = make(chan struct{}, 2)

// commandTime bounds a lupatch command: loading an update with many references
// takes seconds on 6.1, more so under emulation.
const commandTime = 3 * time.Minute

// guest is a lab host as one test sees it.
type guest struct {
	*lab.Host
	t *testing.T
}

func boot(t *testing.T, conf lab.Config, opts ...labtest.Option) guest {
	t.Helper()
	labtest.SkipIfShort(t)
	labtest.Lupatch(t)
	hosts <- struct{}{}
	t.Cleanup(func() { <-hosts })
	return guest{labtest.Boot(t, conf, opts...), t}
}

// run makes a subtest of a step: the steps of a host build on each other, so
// that the first that fails is the last.
func (g guest) run(name string, f func(g guest)) {
	g.t.Helper()
	if !g.t.Run(name, func(t *testing.T) {
		f(guest{g.Host, t})
	}) {
		g.t.FailNow()
	}
}

// sample is run for a step that no other builds on: one in n of them is made, unless
// the tests are thorough.
func (g guest) sample(n int, name string, f func(g guest)) {
	g.t.Helper()
	if sample.Drawn(g.t.Name()+name, n) {
		g.run(name, f)
	}
}

func (g guest) sh(script string) string { g.t.Helper(); return labtest.Sh(g.t, g.Host, script) }

// until runs a condition of the guest's shell until it is true.
func (g guest) until(condition string) {
	g.t.Helper()
	g.sh("until " + condition + "; do usleep 50000; done")
}

func (g guest) put(image []byte, path string) string {
	g.t.Helper()
	if err := g.Put(g.t.Context(), path, image, 0o644); err != nil {
		g.t.Fatal(err)
	}
	return path
}

// file brings an update into the guest.
func (g guest) file(b built) string { g.t.Helper(); return g.put(b.image, "/root/"+b.name+".ko") }

func (g guest) putFile(from, to string) string {
	g.t.Helper()
	if err := g.PutFile(g.t.Context(), from, to); err != nil {
		g.t.Fatal(err)
	}
	return to
}

func (g guest) insmod(path string) {
	g.t.Helper()
	if err := g.Insmod(g.t.Context(), path, ""); err != nil {
		g.t.Fatal(err)
	}
}

func (g guest) rmmod(name string) {
	g.t.Helper()
	if err := g.Rmmod(g.t.Context(), name); err != nil {
		g.t.Fatal(err)
	}
}

// wantErrno looks for the kernel's own reason to refuse.
func (g guest) wantErrno(err, errno error) {
	g.t.Helper()
	if !errors.Is(err, errno) {
		g.t.Fatalf("got %v, want %v", err, errno)
	}
}

// noProbation is for the tests that are not about probation and do not say how
// long it lasts.
var noProbation = []string{"LUPATCH_PROBATION=0"}

// lupatch runs the command with --json.
func (g guest) lupatch(verb string, args ...string) *lab.Result {
	g.t.Helper()
	r, err := g.Run(g.t.Context(), lab.Cmd{Argv: append([]string{"lupatch", verb, "--json"}, args...), Env: noProbation, Timeout: commandTime})
	if err != nil {
		g.t.Fatalf("lupatch %s %s: %v", verb, strings.Join(args, " "), err)
	}
	return r
}

// lupatchText runs the command for a person.
func (g guest) lupatchText(verb string, args ...string) []byte {
	g.t.Helper()
	r, err := g.Run(g.t.Context(), lab.Cmd{Argv: append([]string{"lupatch", verb}, args...), Env: noProbation, Timeout: commandTime})
	if err != nil || r.Code != 0 {
		g.t.Fatalf("lupatch %s %s: %v: %+v", verb, strings.Join(args, " "), err, r)
	}
	return r.Stdout
}

func (g guest) succeed(answer any, verb string, args ...string) {
	g.t.Helper()
	r := g.lupatch(verb, args...)
	if r.Code != 0 {
		g.t.Fatalf("lupatch %s %s: exit code %d\n%s%s", verb, strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	g.decode(r, answer)
}

func (g guest) decode(r *lab.Result, answer any) {
	g.t.Helper()
	if err := json.Unmarshal(r.Stdout, answer); err != nil {
		g.t.Fatalf("%v\n%s%s", err, r.Stdout, r.Stderr)
	}
}

// apply brings updates into the guest and applies them as one change.
func (g guest) apply(updates ...built) []lupatch.Result {
	g.t.Helper()
	var files []string
	for _, u := range updates {
		files = append(files, g.file(u))
	}
	var answer struct{ Applied []lupatch.Result }
	g.succeed(&answer, "apply", files...)
	if len(answer.Applied) != len(updates) {
		g.t.Fatalf("%d of %d updates were applied", len(answer.Applied), len(updates))
	}
	return answer.Applied
}

func (g guest) rollback(args ...string) lupatch.Result {
	g.t.Helper()
	var answer struct {
		Back []lupatch.Result `json:"rolled_back"`
	}
	g.succeed(&answer, "rollback", args...)
	if len(answer.Back) != 1 {
		g.t.Fatalf("taken back: %+v", answer.Back)
	}
	return answer.Back[0]
}

func (g guest) status() (s lupatch.Status) {
	g.t.Helper()
	g.succeed(&s, "status")
	return s
}

// summary is what status says in one line: the states of updates, newest
// first, and the names of foreign livepatches.
func summary(s lupatch.Status) string {
	var out []string
	for _, u := range slices.Concat(s.Updates, s.Resident) {
		out = append(out, u.Module+" "+u.State)
	}
	for _, p := range s.Foreign {
		out = append(out, p.Name+" foreign")
	}
	return strings.Join(out, ", ")
}

func (g guest) wantStatus(want string) {
	g.t.Helper()
	if got := summary(g.status()); got != want {
		g.t.Errorf("status is %q, want %q", got, want)
	}
}

type refusal struct {
	ID     refuse.ID
	Where  string
	Detail string
	Remedy string
}

// refused wants a refusal: its identifier, exit code 3, and one line on
// standard error that names the words.
func (g guest) refused(id refuse.ID, words []string, verb string, args ...string) {
	g.t.Helper()
	g.checkRefusal(g.lupatch(verb, args...), id, words...)
}

func (g guest) checkRefusal(r *lab.Result, id refuse.ID, words ...string) {
	g.t.Helper()
	var answer struct{ Refused *refusal }
	verb, code := "refused", refuse.New(id, "", "").Code()
	if code == refuse.ReversedCode {
		verb = "taken back"
	}
	if r.Code != code {
		g.t.Fatalf("exit code %d, want %d\n%s%s", r.Code, code, r.Stdout, r.Stderr)
	}
	g.decode(r, &answer)
	if answer.Refused == nil || answer.Refused.ID != id || answer.Refused.Remedy == "" {
		g.t.Fatalf("want the refusal %s\n%s%s", id, r.Stdout, r.Stderr)
	}
	text, _, _ := strings.Cut(string(r.Stderr), "\n")
	for _, w := range append(words, fmt.Sprintf("%s (%s)", verb, id)) {
		if !strings.Contains(text, w) {
			g.t.Errorf("%q does not mention %q", text, w)
		}
	}
}

// background runs a lupatch command that will take its time.
func (g guest) background(ctx context.Context, argv ...string) *lab.Process {
	g.t.Helper()
	p, err := g.Start(ctx, lab.Cmd{Argv: argv, Env: noProbation, Timeout: commandTime})
	if err != nil {
		g.t.Fatal(err)
	}
	return p
}

func (g guest) wait(p *lab.Process) *lab.Result {
	g.t.Helper()
	r, err := p.Wait(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	return r
}

// show reads a file of the target.
func (g guest) show(name string) string { g.t.Helper(); return g.sh("cat /proc/lutarget/" + name) }

func (g guest) wantShown(name, want string) {
	g.t.Helper()
	if got := g.show(name); got != want {
		g.t.Errorf("/proc/lutarget/%s says %q, want %q", name, got, want)
	}
}

// modules lists the modules in memory.
func (g guest) modules() string { g.t.Helper(); return g.sh("cut -d' ' -f1 /proc/modules | sort") }

func (g guest) wantLoaded(name string, want bool) {
	g.t.Helper()
	if got := slices.Contains(strings.Fields(g.modules()), name); got != want {
		g.t.Errorf("module %s in memory: %v, want %v", name, got, want)
	}
}

func (g guest) read(path string) []byte {
	g.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		g.t.Fatal(err)
	}
	return b
}
