// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"

	"github.com/lupatch/lupatch/internal/doctor"
)

func (h *host) doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "say whether this host can build and apply updates",
		Description: `Looks at the kernel, the compiler, the package sources and more, and says what is
missing and how to get it. It changes nothing. With --for it is a test: the exit
code is 1 if the host cannot do that.

Examples:
   lupatch doctor
   lupatch doctor --for apply && lupatch apply fix.ko
   lupatch doctor --json | jq '.checks[] | select(.status != "ok")'`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "for", Usage: "test for this `PURPOSE`: build or apply"},
			jsonFlag,
		},
		Action: func(c *cli.Context) error {
			purpose := doctor.Purpose(c.String("for"))
			if c.Args().Present() {
				return &usageError{"doctor takes no arguments", "doctor"}
			}
			if purpose != "" && purpose != doctor.Apply && purpose != doctor.Build {
				return &usageError{fmt.Sprintf("--for is build or apply, not %q", purpose), "doctor"}
			}
			r, err := h.doctor.Examine(c.Context)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				err = printJSON(h.out, r)
			} else {
				h.printReport(r)
			}
			if err == nil && !r.Able(purpose) {
				err = quietError{}
			}
			return err
		},
	}
}

func (h *host) printReport(r *doctor.Report) {
	t := newTable(h.out, "for", "check", "", "finding")
	for _, c := range r.Checks {
		t.AppendRow(table.Row{c.Purpose, c.Name, c.Status, c.Detail})
	}
	t.Render()
	for _, c := range r.Checks {
		if c.Remedy != "" {
			fmt.Fprintf(h.out, "%s: %s\n", c.Name, c.Remedy)
		}
	}
	can := map[bool]string{true: "can", false: "cannot"}
	fmt.Fprintf(h.out, "this host %s apply updates and %s build them\n", can[r.CanApply], can[r.CanBuild])
}
