// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"

	"github.com/lupatch/lupatch/internal/instances"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/quiesce"
	"github.com/lupatch/lupatch/update"
)

func (h *host) planCommand() *cli.Command {
	return &cli.Command{
		Name:      "plan",
		Usage:     "show what applying updates would meet on this host",
		ArgsUsage: "FILE...",
		Description: `Shows the units with their versions, the functions and when they take effect,
the tasks that are inside of them right now, functions in which somebody always
is, hooks of others (BPF programs, kprobes, users of ftrace), points to review,
and what is expected of the apply. Tasks are watched for two seconds. Nothing is
written, and nothing stays in the kernel. Needs root to see tasks.

The exit code is the one that apply is expected to end with: 0 it would be
applied, at once or after waiting for tasks; 3 it would be refused; 4 a task does
not leave, so that it would be taken back at the deadline.

Examples:
   lupatch plan fix.ko
   lupatch plan --json fix.ko | jq -r .expected
   lupatch plan --watch 30s fix.ko    watch tasks for longer
   lupatch plan e1000.ko              what replacing that driver would meet`,
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "watch", Value: 2 * time.Second, Usage: "how long (`TIME`) tasks are watched"},
			untestedFlag,
			jsonFlag,
		},
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return &usageError{"plan needs at least one update file", "plan"}
			}
			const interval = 200 * time.Millisecond
			if c.Duration("watch") < interval {
				return &usageError{fmt.Sprintf("tasks are watched for %s at least", interval), "plan"}
			}
			files := c.Args().Slice()
			if driver, err := driverAmong(files); err != nil {
				return err
			} else if driver {
				return h.planDriver(c, files[0])
			}
			p, err := h.update().Plan(c.Context, files, update.PlanOptions{Looks: int(c.Duration("watch") / interval), Interval: interval})
			if err != nil {
				return err
			}
			ran, err := h.alreadyRanFiles(files)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				answer := struct {
					*update.Plan
					Ran map[string][]instances.Point `json:"already_run_here,omitempty"`
				}{p, ran}
				if err := printJSON(h.out, answer); err != nil {
					return err
				}
			} else {
				printPlan(h.out, p, ran)
			}
			switch p.Expected {
			case update.WouldRefuse:
				return cli.Exit("", refuse.ExitCode)
			case update.Never:
				return cli.Exit("", refuse.ReversedCode)
			}
			return nil
		},
	}
}

func printPlan(w io.Writer, p *update.Plan, ran map[string][]instances.Point) {
	t := newTable(w, "unit", "version", "update", "function", "takes effect", "now replaced by")
	for _, u := range p.Units {
		version := fmt.Sprintf("%d → %d", u.Has, u.Gives)
		if u.Waiting {
			version += ", not loaded"
		}
		for _, f := range u.Functions {
			t.AppendRow(table.Row{u.Unit, version, u.Update, f.Name, effects[f.Effect], orDash(f.Module)})
		}
	}
	t.Render()
	for _, u := range p.Units {
		for _, line := range lines(ran[u.Update]) {
			fmt.Fprintln(w, line)
		}
		delete(ran, u.Update)
	}
	if s := p.Pass; s != nil {
		fmt.Fprintf(w, "tasks: %d seen by %s in %s, %d of them in what is replaced, %d running\n", s.Tasks, s.Way, s.Took.Round(100*time.Microsecond), len(s.Blockers), len(s.Running))
		if s.Why != "" {
			fmt.Fprintf(w, "  not by bpf: %s\n", oneLine(s.Why))
		}
		if s.Partial != "" {
			fmt.Fprintf(w, "  %s\n", s.Partial)
		}
		for _, f := range s.Blind {
			fmt.Fprintf(w, "  nobody can see tasks in %s: it is one of the scheduler's\n", f.Name)
		}
		printBlockers(w, s.Blockers)
	} else {
		fmt.Fprintf(w, "tasks: cannot be seen: %s\n", oneLine(p.Unseen))
	}
	for _, b := range p.Busy {
		fmt.Fprintf(w, "busy: %s of %s at %d of %d looks, %s always there\n", b.Name, b.Unit, b.Busy, b.Looks, count(len(b.Always), "task"))
	}
	for _, c := range p.Hooks {
		fmt.Fprintf(w, "hook: %s of %s: %s\n", c.Function, c.Unit, c.Detail)
	}
	for _, s := range p.Unlooked {
		fmt.Fprintf(w, "not looked at: %s\n", oneLine(s))
	}
	if len(p.PanicOn) > 0 {
		fmt.Fprintln(w, panicsInstead(p.PanicOn))
	}
	for _, s := range p.Review {
		fmt.Fprintf(w, "review: %s\n", s)
	}
	fmt.Fprintf(w, "expected: %s\n", expectations[p.Expected])
	for _, s := range p.Because {
		fmt.Fprintf(w, "  %s\n", oneLine(s))
	}
}

var expectations = map[update.Expectation]string{
	update.AtOnce:      "applied at once",
	update.Waits:       "applied, after waiting for tasks",
	update.Never:       "not applied: a task does not leave what is replaced, and all would be taken back at the deadline",
	update.WouldRefuse: "refused: the update's own check would fail",
	update.Unknown:     "unknown: tasks cannot be seen",
}

// printBlockers lists the tasks in the way, some of them if there are many.
func printBlockers(w io.Writer, list []quiesce.Blocker) {
	const shown = 20
	for _, b := range list[:min(len(list), shown)] {
		note := ""
		if b.Hidden {
			note = " (a place that the kernel does not look at)"
		}
		fmt.Fprintf(w, "  %s%s\n", b, note)
	}
	if n := len(list) - shown; n > 0 {
		fmt.Fprintf(w, "  and %d more\n", n)
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
