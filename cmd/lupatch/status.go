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

States: applied, applying and reversing (tasks are still moving), waiting (the
module it changes is not loaded), resident (taken back, the module is still in
memory), foreign (not loaded by lupatch). Where a foreign livepatch replaces the
same function as an update, the newer one is in force, and both are named.

Examples:
   lupatch status
   lupatch status --json | jq '.units[] | {unit, version}'`,
		Flags: []cli.Flag{jsonFlag},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return &usageError{"status takes no arguments", "status"}
			}
			s, err := h.update().Status(c.Context)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(h.out, s)
			}
			printStatus(h.out, s)
			return nil
		},
	}
}

func printStatus(w io.Writer, s *update.Status) {
	if len(s.Updates)+len(s.Foreign)+len(s.Resident) == 0 {
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
		fmt.Fprintf(w, "%s of %s has not ended: run `lupatch recover`\n", o.Kind, strings.Join(o.Updates, ", "))
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
	for _, f := range s.Forced {
		fmt.Fprintf(w, "%s was forced upon tasks that had not moved (%s): this host owes a reboot\n", f.Update, f.Waited)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Damaged)) {
		fmt.Fprintf(w, "the stored copy of %s cannot be read: %s\n", name, s.Damaged[name])
	}
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
