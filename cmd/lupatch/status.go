// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"

	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/update"
)

func (h *host) statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show what is in the running kernel",
		Description: `Shows every livepatch in the kernel, lupatch's own and foreign ones, the version
each unit is at, what is going on, and modules that rollbacks left in memory.
All of it is read from the kernel; the times are from lupatch's journal.

States: applied, applying and reversing (tasks are still moving), stuck (its way back
waits beyond the deadline, or nobody waits with it), on probation (a fault still takes
it back), waiting (the module it changes is not loaded), resident (taken back, the
module is still in memory), foreign (not loaded by lupatch). Where a foreign livepatch replaces the
same function as an update, the newer one is in force, and both are named.

Examples:
   lupatch status
   lupatch status --json | jq '.units[] | {unit, version}'
   lupatch status --prometheus --output /var/lib/node_exporter/lupatch.prom`,
		Flags: []cli.Flag{
			jsonFlag,
			&cli.BoolFlag{Name: "prometheus", Usage: "print metrics in Prometheus' text format"},
			&cli.StringFlag{Name: "output", Usage: "write them to `FILE`, which is replaced as a whole, for node_exporter's textfile collector"},
		},
		Action: func(c *cli.Context) error {
			switch {
			case c.Args().Present():
				return &usageError{"status takes no arguments", "status"}
			case c.Bool("json") && c.Bool("prometheus"):
				return &usageError{"--json and --prometheus exclude each other", "status"}
			case c.IsSet("output") && !c.Bool("prometheus"):
				return &usageError{"--output is for --prometheus", "status"}
			}
			s, err := h.update().Status(c.Context)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(h.out, s)
			}
			if c.Bool("prometheus") {
				return h.exportMetrics(c.String("output"), s)
			}
			printStatus(h.out, s)
			return nil
		},
	}
}

func printStatus(w io.Writer, s *update.Status) {
	if len(s.Updates)+len(s.Foreign)+len(s.Resident)+len(s.Drivers) == 0 {
		fmt.Fprintf(w, "kernel %s: as shipped, no livepatch\n", s.Release)
	} else {
		fmt.Fprintf(w, "kernel %s\n", s.Release)
		t := newTable(w, "unit", "version", "update", "state", "since", "functions")
		for _, u := range slices.Concat(s.Updates, s.Resident) {
			for _, c := range u.Units {
				state := u.State
				if c.Waiting {
					state = "waiting"
				}
				if len(c.Contested) > 0 {
					state += ", also replaced by " + strings.Join(c.Contested, ", ")
				}
				t.AppendRow(table.Row{c.Unit, c.Version, u.Module, state, ago(u.Since), few(c.Functions)})
			}
		}
		for _, d := range s.Drivers {
			t.AppendRow(table.Row{d.Module, d.Version, d.Update, "driver replaced", ago(d.Since), "all"})
		}
		for _, p := range s.Foreign {
			for _, o := range p.Objects {
				t.AppendRow(table.Row{o.Name, "-", p.Name, foreignState(p), "-", few(functionNames(o))})
			}
		}
		t.Render()
	}
	if p := s.Transition; p != nil {
		what := "is being applied"
		if !p.Enabling {
			what = "is being taken back"
		}
		fmt.Fprintf(w, "%s %s: %d of %d tasks remain\n", p.Livepatch, what, len(p.Remaining), p.Tasks)
		for _, t := range p.Remaining {
			fmt.Fprintf(w, "  %s\n", t)
		}
	}
	for _, o := range s.Open {
		what := "has not ended: run `lupatch recover`"
		if o.AtWork {
			what = "is going on"
		}
		fmt.Fprintf(w, "%s of %s %s\n", o.Kind, strings.Join(o.Updates, ", "), what)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Barred)) {
		fmt.Fprintf(w, "%s is barred: %s\n", name, s.Barred[name])
	}
	for _, line := range atBoot(s) {
		fmt.Fprintln(w, line)
	}
	for _, m := range s.Missing {
		fmt.Fprintf(w, "%s: somebody else disabled that; roll back what stands on it\n", m)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Damaged)) {
		fmt.Fprintf(w, "the stored copy of %s cannot be read: %s\n", name, s.Damaged[name])
	}
	for _, why := range s.RebootOwed {
		fmt.Fprintf(w, "a reboot is owed: %s\n", why)
	}
	if len(s.Taint) > 0 {
		fmt.Fprintf(w, "the kernel is tainted: %s\n", taintWords(s.Taint))
	}
}

// taintWords are the flags' letters with what they mean.
func taintWords(flags []kpatch.TaintFlag) string {
	var out []string
	for _, f := range flags {
		out = append(out, fmt.Sprintf("%s (%s)", f.Letter, f.Meaning))
	}
	return strings.Join(out, ", ")
}

// atBoot says where the next boot differs from now.
func atBoot(s *update.Status) (out []string) {
	now := map[string]bool{}
	for _, u := range s.Updates {
		now[u.Update] = true
		if u.State == update.StateApplied && !slices.Contains(s.AfterBoot, u.Update) && len(s.Open) == 0 {
			out = append(out, u.Update+" will not be there after a boot: the journal does not have it")
		}
	}
	for _, name := range s.AfterBoot {
		if !now[name] && s.Barred[name] == "" {
			out = append(out, name+" is not in force, and the next boot applies it again: `lupatch recover --boot` does so now")
		}
	}
	return out
}

func foreignState(p kpatch.Livepatch) string {
	switch {
	case p.Transition:
		return "foreign, in transition"
	case !p.Enabled:
		return "foreign, disabled"
	}
	return "foreign"
}

func functionNames(o kpatch.Object) (out []string) {
	for _, f := range o.Functions {
		out = append(out, f.Name)
	}
	return out
}

// few shortens a list to what fits a column.
func few(names []string) string {
	const shown = 3
	if len(names) <= shown {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), len(names)-shown)
}

func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04")
}
