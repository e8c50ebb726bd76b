// SPDX-License-Identifier: Apache-2.0

package main

//go:generate go test -run ^Test(JSON|Metrics)Document$ . -update

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/urfave/cli/v2"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/disasm"
	"github.com/lupatch/lupatch/internal/doctor"
	"github.com/lupatch/lupatch/internal/instances"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/sign"
	"github.com/lupatch/lupatch/shadow"
	"github.com/lupatch/lupatch/update"
)

var writeJSONDoc = flag.Bool("update", false, "write docs/json.md and docs/metrics.md")

const jsonDoc = "../../docs/json.md"

// answer is one object that a verb prints with --json. Its fields are those of shape.
type answer struct {
	verb, when string
	shape      any
}

// ofEvery stands for every verb.
const ofEvery = "every verb"

type alreadyRun struct {
	// What the old code has run already: devices, modules and parameters of this host, by update.
	Ran map[string][]instances.Point `json:"already_run_here,omitempty"`
}

// answers are all of them. A verb with --json that is not here fails a test, as does
// output with a field that is not.
var answers = []answer{
	{"build", "The update was built.", build.Result{}},
	{"inspect", "The manifest of the update, and besides it:", struct {
		*manifest.Manifest
		// Those of the module and beside it, held against this host's keys.
		Signatures []sign.Signature `json:"signatures"`
		// What the old code has run already on this host.
		Ran []instances.Point `json:"already_run_here,omitempty"`
		// With --disasm: the old and the new code.
		Disasm []disasm.Function `json:"disasm,omitempty"`
	}{}},
	{"sign", "What was written.", struct {
		// The files.
		Signed []string `json:"signed"`
	}{}},
	{"sign", "With --generate.", struct {
		// The keys' files.
		Generated sign.Generated `json:"generated"`
	}{}},
	{"verify", "This host accepts all of them.", struct {
		// In the order given.
		Updates []update.Verdict `json:"updates"`
	}{}},
	{"plan", "What an apply would meet. Exit codes 3 and 4 if it is expected to end so.", struct {
		*update.Plan
		alreadyRun
	}{}},
	{"plan", "What the replacement of a driver would meet; exit code 3 if it would be refused.", update.DriverPlan{}},
	{"apply", "All updates are in force.", struct {
		// In the order given.
		Applied []update.Result `json:"applied"`
		alreadyRun
	}{}},
	{"apply", "With --dry-run: all could be applied.", struct {
		WouldApply []update.Result `json:"would_apply"`
		alreadyRun
	}{}},
	{"apply", "Exit code 6: what was seen on probation has taken them back.", struct {
		TakenBack failedProbation `json:"taken_back"`
	}{}},
	{"rollback", "Taken back.", struct {
		// In the order in which they were taken back.
		RolledBack []update.Result `json:"rolled_back"`
	}{}},
	{"rollback", "With --dry-run: could be taken back.", struct {
		WouldRollBack []update.Result `json:"would_roll_back"`
	}{}},
	{"status", "The host's state.", update.Status{}},
	{"recover", "Nothing is open any more.", struct {
		Recovered []update.Recovered `json:"recovered"`
	}{}},
	{"recover", "With --boot.", update.Boot{}},
	{"recover", "With --settled.", struct {
		Settled bool `json:"settled"`
	}{}},
	{"recover", "With --unbar.", struct {
		// The update's name.
		Unbarred string `json:"unbarred"`
	}{}},
	{"instances", "Devices with their drivers.", struct {
		Instances []instance `json:"instances"`
	}{}},
	{"watch", "The state, after --start or --stop the new one.", watched{}},
	{"watch", "With --follow: one such object a line, for each request as it ends.", captured{}},
	{"doctor", "What this host can do. Exit code 1 if it cannot do what it was asked for.", doctor.Report{}},
	{"lab run", "How the command ended.", labResult{}},
	{ofEvery, "Exit codes 3 and 4: lupatch declines, or has taken a change back for tasks that did not move ([refusals.md](refusals.md)).", struct {
		Refused refusal `json:"refused"`
	}{}},
	{ofEvery, "Exit code 5: a change could not be taken back yet.", struct {
		Unfinished unfinished `json:"unfinished"`
	}{}},
	{"shadow build", "It is built.", shadowBuilt{}},
	{"shadow install", "It is in place.", shadowBuilt{}},
	{"shadow status", "It is loaded.", shadow.Info{}},
	{ofEvery, "Exit code 1: it failed.", struct {
		// One line.
		Error string `json:"error"`
	}{}},
}

// The document is what the types say.
func TestJSONDocument(t *testing.T) {
	got := jsonDocument(t)
	if *writeJSONDoc {
		if err := os.WriteFile(jsonDoc, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(jsonDoc)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("docs/json.md is not what the types say; `go generate ./cmd/lupatch` writes it:\n%s", d)
	}
}

// Every verb that takes --json is in the document.
func TestJSONOfEveryVerb(t *testing.T) {
	documented := map[string]bool{}
	for _, a := range answers {
		documented[a.verb] = true
	}
	n := 0
	var walk func(prefix string, list []*cli.Command)
	walk = func(prefix string, list []*cli.Command) {
		for _, c := range list {
			name := prefix + c.Name
			for _, f := range c.Flags {
				if f.Names()[0] == "json" {
					if n++; !documented[name] {
						t.Errorf("what %s --json prints is not documented", name)
					}
				}
			}
			walk(name+" ", c.Subcommands)
		}
	}
	walk("", newApp(thisHost()).Commands)
	if n < 7 {
		t.Errorf("only %d verbs take --json", n)
	}
}

// documented is a command of the scripts: what the last command printed is what is
// documented of a verb.
func documented(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: documented VERB")
	}
	text := ts.ReadFile("stdout")
	why := "no such verb"
	for _, a := range answers {
		if a.verb != args[0] && a.verb != ofEvery {
			continue
		}
		if err := strict(text, a.shape); err == nil {
			return
		} else if a.verb == args[0] {
			why = err.Error()
		}
	}
	ts.Fatalf("this is not what is documented of %s: %s\n%s", args[0], why, text)
}

// strict reads text into a value of shape's type: every field has to be known, and
// each that is always there has to be there.
func strict(text string, shape any) error {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(reflect.New(reflect.TypeOf(shape)).Interface()); err != nil {
		return err
	}
	var top map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &top); err != nil {
		return err
	}
	for _, f := range fieldsOf(reflect.TypeOf(shape)) {
		if _, ok := top[f.name]; !ok && !f.optional {
			return fmt.Errorf("there is no %q", f.name)
		}
	}
	return nil
}

func TestStrict(t *testing.T) {
	shape := struct {
		A int `json:"a"`
		B int `json:"b,omitempty"`
	}{}
	for text, ok := range map[string]bool{`{"a":1}`: true, `{"a":1,"b":2}`: true, `{"b":2}`: false, `{"a":1,"c":2}`: false, `{"a":"x"}`: false, ``: false} {
		if err := strict(text, shape); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

const jsonIntro = `<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Made from the Go types by "go generate ./cmd/lupatch". -->
# What the commands print with --json

One object on standard output, in UTF-8. Progress and messages go to standard error.
Fields may be added; none changes its meaning. A field that is marked with "?" is left
out where it would be empty, false or zero. Times are in RFC 3339, durations in
nanoseconds.
`

func jsonDocument(t *testing.T) []byte {
	t.Helper()
	d := &docWriter{t: t, comments: map[string]*comments{}, seen: map[reflect.Type]bool{}}
	d.b.WriteString(jsonIntro)
	verb := ""
	for _, a := range answers {
		if a.verb != verb {
			verb = a.verb
			fmt.Fprintf(&d.b, "\n## %s\n", verb)
		}
		fmt.Fprintf(&d.b, "\n%s\n\n", a.when)
		d.table(reflect.TypeOf(a.shape))
	}
	d.b.WriteString("\n## Types\n")
	for len(d.queue) > 0 {
		next := d.queue[0]
		d.queue = d.queue[1:]
		d.section(next)
	}
	return d.b.Bytes()
}
