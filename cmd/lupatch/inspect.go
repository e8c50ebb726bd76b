// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"

	"github.com/lupatch/lupatch/internal/disasm"
	"github.com/lupatch/lupatch/internal/instances"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/sign"
)

func (h *host) inspectCommand() *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Usage:     "show what is in an update file",
		ArgsUsage: "FILE",
		Description: `Shows the units and functions an update changes, with their sizes, what it needs
of the kernel, when it takes effect and what a person should review. On the kernel
that the update is for it also lists for which devices, modules and values the old
code has already run. Signatures are held against the keys that this host trusts (see
lupatch verify). The file is checked first: one that is damaged is refused.
Needs no privilege.

Examples:
   lupatch inspect fix.ko
   lupatch inspect --disasm fix.ko    both versions of the code, side by side
   lupatch inspect --json fix.ko | jq '.units[].functions[].name'`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "disasm", Usage: "show the shipped and the new code side by side"},
			jsonFlag,
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return &usageError{"inspect needs one update file", "inspect"}
			}
			file, m, err := manifest.ReadUpdate(c.Args().First())
			if err != nil {
				return err
			}
			var code []disasm.Function
			if c.Bool("disasm") && m.Method == "driver" {
				return &usageError{"--disasm is for livepatches: a driver is replaced whole", "inspect"}
			}
			if c.Bool("disasm") {
				if code, err = disasm.Update(c.Context, file); err != nil {
					return err
				}
			}
			ran, err := h.alreadyRan(m)
			if err != nil {
				return err
			}
			signatures, err := h.signatures(c.Args().First(), file)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(h.out, struct {
					*manifest.Manifest
					Signatures []sign.Signature  `json:"signatures"`
					Ran        []instances.Point `json:"already_run_here,omitempty"`
					Disasm     []disasm.Function `json:"disasm,omitempty"`
				}{m, signatures, ran, code})
			}
			printManifest(h.out, m, signatures)
			list(h.out, "on this host", lines(ran))
			printCode(h.out, code)
			return nil
		},
	}
}

// summary says in a line what an update changes.
func summary(m *manifest.Manifest) string {
	var units []string
	for _, u := range m.Units {
		if u.Driver != nil {
			return strings.TrimSpace("replaces the driver " + u.Name + " by that of " + m.Source.Version)
		}
		units = append(units, fmt.Sprintf("%s (%s)", u.Name, count(len(u.Functions), "function")))
	}
	s := "changes " + strings.Join(units, ", ")
	if m.Source.Subject != "" {
		s = m.Source.Subject + "; " + s
	}
	return s
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

var classes = map[manifest.Class]string{
	manifest.ClassCode:      "code only",
	manifest.ClassData:      "data that exists once",
	manifest.ClassInstances: "layout of data that exists many times",
}

var effects = map[manifest.Effect]string{
	manifest.EffectNow:       "when applied",
	manifest.EffectNextProbe: "for devices probed later",
	manifest.EffectNever:     "never: has already run",
}

func standsOn(m *manifest.Manifest) string {
	var names []string
	for _, b := range m.On {
		names = append(names, b.Update)
	}
	s := strings.Join(names, ", ")
	if m.Cumulative {
		s += ", and carries what they change"
	}
	return s
}

func printManifest(w io.Writer, m *manifest.Manifest, signatures []sign.Signature) {
	line := func(name, format string, args ...any) {
		if s := fmt.Sprintf(format, args...); s != "" {
			fmt.Fprintf(w, "%-10s %s\n", name, s)
		}
	}
	line("update", "%s", m.Name)
	line("subject", "%s", m.Source.Subject)
	line("cve", "%s", strings.Join(m.Source.CVE, ", "))
	line("method", "%s", m.Method)
	line("kernel", "%s", m.Release)
	sum := "patch"
	if m.Method == "driver" {
		line("changes", "the whole driver")
		sum = "content"
	} else {
		line("changes", "%s", classes[m.Class])
	}
	line("source", "%s (%s sha256 %.16s…)", strings.TrimSpace(m.Source.Version+" "+strings.Join(m.Source.Files, ", ")), sum, m.Source.SHA256)
	if m.Tools.Lupatch == "" {
		line("made by", "not lupatch build: the module itself says all this; %s, %s", m.Tools.Compiler, ago(m.Created))
	} else {
		line("made by", "lupatch %s, %s, %s", m.Tools.Lupatch, m.Tools.Compiler, ago(m.Created))
	}
	line("stands on", "%s", standsOn(m))
	if len(signatures) == 0 {
		line("signed", "no")
	}
	for _, s := range signatures {
		line("signed", "%s", s)
	}

	if m.Method == "driver" {
		printDriver(w, m)
		return
	}
	fmt.Fprintln(w)
	t := newTable(w, "unit", "from", "to", "functions verified", "build id")
	for _, u := range m.Units {
		t.AppendRow(table.Row{u.Name, u.Needs, u.Gives, u.Verified, fmt.Sprintf("%.12s…", u.BuildID)})
	}
	t.Render()

	fmt.Fprintln(w)
	t = newTable(w, "function", "unit", "old", "new", "takes effect", "file")
	for _, u := range m.Units {
		for _, f := range u.Functions {
			name, old := f.Name, fmt.Sprint(f.OldSize)
			if f.Sympos > 1 {
				name += fmt.Sprintf(",%d", f.Sympos)
			}
			if f.New {
				old = "-"
			}
			t.AppendRow(table.Row{name, u.Name, old, f.NewSize, effects[f.Effect], f.File})
		}
		for _, name := range u.AlreadyRan {
			t.AppendRow(table.Row{name, u.Name, "-", "-", effects[manifest.EffectNever], "-"})
		}
	}
	t.Render()
	printData(w, m)
	printRelocations(w, m)
	list(w, "stays in memory after a rollback, because of", m.Escapes)
	list(w, "to review", m.Review)
}

// printDriver shows the module of a driver update.
func printDriver(w io.Writer, m *manifest.Manifest) {
	u := m.Units[0]
	size := func(n uint64) string {
		if n == 0 {
			return "?"
		}
		return fmt.Sprint(n)
	}
	id := func(s string) string {
		if s == "" {
			return "any"
		}
		return fmt.Sprintf("%.12s…", s)
	}
	fmt.Fprintln(w)
	t := newTable(w, "driver", "class", "replaces build id", "build id", "room a device, before", "now", "device patterns")
	t.AppendRow(table.Row{u.Name, u.Driver.Class, id(u.BuildID), id(u.Driver.BuildID), size(u.Driver.PrivateBefore), size(u.Driver.Private), len(u.Driver.Devices)})
	t.Render()
	list(w, "to review", m.Review)
}

// printData shows variables that are written or kept, and callbacks.
func printData(w io.Writer, m *manifest.Manifest) {
	data := newTable(w, "variable", "unit", "what happens", "changes", "file")
	calls := newTable(w, "callback", "unit", "function", "file")
	for _, u := range m.Units {
		for _, d := range u.Data {
			data.AppendRow(table.Row{d.Name, u.Name, d.Action, strings.Join(d.Changes, ", "), d.File})
		}
		for _, c := range u.Callbacks {
			calls.AppendRow(table.Row{c.Kind, u.Name, c.Function, c.File})
		}
	}
	for _, t := range []table.Writer{data, calls} {
		if t.Length() > 0 {
			fmt.Fprintln(w)
			t.Render()
		}
	}
}

func printRelocations(w io.Writer, m *manifest.Manifest) {
	t := newTable(w, "needs symbol", "of", "for", "times", "resolved by")
	for _, u := range m.Units {
		for _, r := range u.Relocations {
			by, name := "livepatch", r.Symbol
			if r.Exported {
				by = "module loader"
			}
			if r.Sympos > 1 {
				name += fmt.Sprintf(",%d", r.Sympos)
			}
			t.AppendRow(table.Row{name, r.Object, u.Name, r.Count, by})
		}
	}
	if t.Length() > 0 {
		fmt.Fprintln(w)
		t.Render()
	}
}

func list(w io.Writer, title string, points []string) {
	if len(points) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s:\n", title)
	for _, p := range points {
		fmt.Fprintf(w, "  - %s\n", p)
	}
}

// printCode shows old code on the left, new code on the right; the middle column
// says what differs.
func printCode(w io.Writer, code []disasm.Function) {
	for _, f := range code {
		fmt.Fprintf(w, "\n%s of %s\n", f.Name, f.Unit)
		t := newTable(w, "old", "", "new")
		for _, l := range f.Lines {
			mark := "|"
			switch {
			case l.Same:
				mark = ""
			case l.Old == "":
				mark = ">"
			case l.New == "":
				mark = "<"
			}
			t.AppendRow(table.Row{l.Old, mark, l.New})
		}
		t.Render()
	}
}
