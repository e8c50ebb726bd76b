// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/lupatch/lupatch/update"
)

func (h *host) rollbackCommand() *cli.Command {
	return &cli.Command{
		Name:      "rollback",
		Usage:     "take an update back",
		ArgsUsage: "[NAME]",
		Description: `Takes the update NAME back, or the newest one. Updates that stand on it have to
go first. Its module leaves memory if nothing can reach it any more; if that is
not certain it stays, disabled and harmless, and the reason is given. If tasks
do not leave its code until the timeout, the update stays in force. Needs root.

Examples:
   lupatch rollback                   the newest update
   lupatch rollback fix_mtu
   lupatch rollback --dry-run         which one would it be?`,
		Flags: []cli.Flag{timeoutFlag, dryRunFlag, yesFlag, jsonFlag},
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return &usageError{"rollback takes one update at a time", "rollback"}
			}
			if c.Duration("timeout") <= 0 {
				return &usageError{"the timeout has to be positive", "rollback"}
			}
			name, opt := c.Args().First(), h.options(c)
			if h.asks(c) && !opt.DryRun {
				r, err := h.update().Rollback(c.Context, name, update.Options{DryRun: true})
				if err != nil {
					return err
				}
				if err := h.ask("Take " + r.Update + " back?"); err != nil {
					return err
				}
				name = r.Update
			}
			r, err := h.update().Rollback(c.Context, name, opt)
			if err != nil {
				return err
			}
			key := "rolled_back"
			if opt.DryRun {
				key = "would_roll_back"
			}
			if c.Bool("json") {
				return printJSON(h.out, map[string]any{key: r})
			}
			if opt.DryRun {
				fmt.Fprintf(h.out, "%s: can be taken back\n", r.Update)
				return nil
			}
			fmt.Fprintf(h.out, "%s: taken back%s\n", r.Update, took(r.Transition))
			if r.Resident != "" {
				fmt.Fprintf(h.out, "its module %s stays in memory, disabled: %s\n", r.Module, r.Resident)
			}
			return nil
		},
	}
}
