// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/lupatch/lupatch/update"
)

func (h *host) rollbackCommand() *cli.Command {
	return &cli.Command{
		Name:      "rollback",
		Usage:     "take an update back",
		ArgsUsage: "[NAME]",
		Description: `Takes the update NAME back, or the newest one. Updates that stand on it go before
it, the newest first: they are shown and you are asked, or --yes says so. The
version below comes into force. Its module leaves memory if nothing can reach it any more; if that is
not certain it stays, disabled and harmless, and the reason is given. If tasks
do not leave its code until the deadline, the update stays in force. Needs root.

Examples:
   lupatch rollback                   the newest update
   lupatch rollback fix_mtu
   lupatch rollback e1000             the driver that was replaced last, by name of the module
   lupatch rollback --yes first       with all that stands on it
   lupatch rollback --dry-run         which one would it be?`,
		Flags: []cli.Flag{deadlineFlag, dryRunFlag, yesFlag, jsonFlag},
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return &usageError{"rollback takes one update at a time", "rollback"}
			}
			if c.Duration("deadline") <= 0 {
				return &usageError{"the deadline has to be positive", "rollback"}
			}
			name, opt := c.Args().First(), h.options(c)
			opt.Later = c.Bool("yes")
			if driver, err := h.namesDriver(name); err != nil {
				return err
			} else if driver != "" {
				return h.rollbackDriver(c, driver, opt)
			}
			if h.asks(c) && !opt.DryRun {
				plan := update.Options{DryRun: true, Later: true}
				list, err := h.update().Rollback(c.Context, name, plan)
				if err != nil {
					return err
				}
				if err := h.ask(goes(list)); err != nil {
					return err
				}
				// What was shown, and nothing that came in the meantime.
				again, err := h.update().Rollback(c.Context, name, plan)
				if err != nil {
					return err
				}
				if goes(again) != goes(list) {
					return fmt.Errorf("what is applied has changed meanwhile; nothing was taken back")
				}
				name, opt.Later = list[len(list)-1].Update, true
			}
			list, err := h.update().Rollback(c.Context, name, opt)
			if err != nil {
				return err
			}
			key := "rolled_back"
			if opt.DryRun {
				key = "would_roll_back"
			}
			if c.Bool("json") {
				return printJSON(h.out, map[string]any{key: list})
			}
			for _, r := range list {
				if opt.DryRun {
					fmt.Fprintf(h.out, "%s: can be taken back\n", r.Update)
					continue
				}
				fmt.Fprintf(h.out, "%s: taken back%s\n", r.Update, took(r.Transition))
				if r.Resident != "" {
					fmt.Fprintf(h.out, "its module %s stays in memory, disabled: %s\n", r.Module, r.Resident)
				}
			}
			return nil
		},
	}
}

// goes asks about what a rollback takes back.
func goes(list []update.Result) string {
	var names []string
	for _, r := range list {
		names = append(names, r.Update)
	}
	last := len(names) - 1
	if last == 0 {
		return "Take " + names[0] + " back?"
	}
	return fmt.Sprintf("%s is below others. Take back %s, in this order?", names[last], strings.Join(names, ", "))
}
