// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/lupatch/lupatch/probation"
	"github.com/lupatch/lupatch/update"
)

func (h *host) recoverCommand() *cli.Command {
	return &cli.Command{
		Name:  "recover",
		Usage: "finish what a crash, a full disk or a waiting reversal left open",
		Description: `Compares the journal with the kernel and ends every change that is open: it is in
force entirely afterwards, or not at all. A change of this boot is completed if all
of it was done, else taken back; one of an earlier boot has left nothing in the
kernel. Without an open change nothing is done. Needs root.

With --boot, as lupatch.service runs it, the updates that were committed on this
kernel are applied again after that, the oldest first. An update is barred after two
boots with it that did not last ten minutes, or two rollbacks by probation.
lupatch.enable=0 on the kernel's command line applies none.

Exit codes: 0 done, 5 tasks are still waited for (run it again, or with --wait).

Examples:
   lupatch recover
   lupatch recover --dry-run          what is open?
   lupatch recover --wait             however long tasks take
   lupatch recover --unbar fix_mtu    allow a barred update again`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "boot", Usage: "also apply the committed updates of this kernel again"},
			&cli.BoolFlag{Name: "settled", Usage: "note that this boot has lasted ten minutes, as lupatch-settled.timer does"},
			&cli.StringFlag{Name: "unbar", Usage: "allow the update `NAME` to be applied again"},
			&cli.BoolFlag{Name: "wait", Usage: "wait for tasks without a deadline"},
			deadlineFlag, dryRunFlag, jsonFlag,
		},
		Action: h.recoverAction,
	}
}

func (h *host) recoverAction(c *cli.Context) error {
	modes := 0
	for _, f := range []string{"boot", "settled", "unbar"} {
		if c.IsSet(f) {
			modes++
		}
	}
	switch {
	case c.Args().Present():
		return &usageError{"recover takes no arguments", "recover"}
	case modes > 1:
		return &usageError{"--boot, --settled and --unbar exclude each other", "recover"}
	case c.Duration("deadline") <= 0:
		return &usageError{"the deadline has to be positive", "recover"}
	}
	opt := h.options(c)
	opt.Wait = c.Bool("wait")
	switch {
	case c.Bool("settled"):
		if err := h.update().Settle(opt); err != nil {
			return err
		}
		return h.tell(c, map[string]any{"settled": true}, "this boot counts as harmless")
	case c.IsSet("unbar"):
		if err := h.update().Unbar(c.String("unbar"), opt); err != nil {
			return err
		}
		return h.tell(c, map[string]any{"unbarred": c.String("unbar")}, c.String("unbar")+": may be applied again")
	case c.Bool("boot"):
		done, err := h.update().Boot(c.Context, opt)
		if done != nil {
			if c.Bool("json") && err == nil {
				return printJSON(h.out, done)
			}
			h.tellRecovered(done.Recovered, opt.DryRun)
			for _, r := range done.Applied {
				fmt.Fprintf(h.out, "%s: applied%s\n", r.Update, took(r.Transition))
			}
			for _, s := range done.Skipped {
				fmt.Fprintf(h.out, "%s: not applied: %s\n", s.Update, oneLine(s.Reason))
			}
		}
		return err
	}
	list, err := h.update().Recover(c.Context, opt)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(h.out, map[string]any{"recovered": list})
	}
	h.tellRecovered(list, opt.DryRun)
	if len(list) == 0 {
		fmt.Fprintln(h.out, "nothing is open")
	}
	return nil
}

// tell answers in one sentence.
func (h *host) tell(c *cli.Context, asJSON map[string]any, sentence string) error {
	if c.Bool("json") {
		return printJSON(h.out, asJSON)
	}
	_, err := fmt.Fprintln(h.out, sentence)
	return err
}

func (h *host) tellRecovered(list []update.Recovered, dry bool) {
	for _, r := range list {
		what := fmt.Sprintf("%s of %s", r.Kind, strings.Join(r.Updates, ", "))
		switch {
		case dry:
			fmt.Fprintf(h.out, "%s: is open\n", what)
		default:
			fmt.Fprintf(h.out, "%s: %s: %s\n", what, r.Outcome, r.Reason)
		}
	}
}

// unfinished is how a change that could not be taken back looks in JSON.
type unfinished struct {
	Update string `json:"update"`
	Step   string `json:"step"`
	Cause  string `json:"cause"`
	Undo   string `json:"undo"`
	Remedy string `json:"remedy"`
}

// finishRemedy is what to do about an unfinished change.
const finishRemedy = "`lupatch recover` finishes it as soon as that is possible (`--wait` waits); `lupatch status` names the tasks"

// reportUnfinished tells of a change that is neither in force nor taken back.
func (h *host) reportUnfinished(e *update.UndoError, asJSON bool) int {
	if asJSON {
		printJSON(h.out, map[string]any{"unfinished": unfinished{e.Name, e.Step, e.Cause.Error(), e.Undo.Error(), finishRemedy}})
	}
	remedy := finishRemedy
	var died *update.DiedError
	if errors.As(e, &died) {
		remedy = "boot this host anew; the update is barred here from then on"
	} else if err := h.startFinisher(); err == nil {
		remedy = "lupatch-finish.service goes on with it; `lupatch status` names the tasks"
	} else if !errors.Is(err, errNoSystemd) {
		fmt.Fprintf(h.err, "lupatch: %s\n", oneLine(err.Error()))
	}
	fmt.Fprintf(h.err, "lupatch: unfinished: %s\nremedy: %s\n", oneLine(e.Error()), remedy)
	if f, ok := probation.Of(e.Cause); ok {
		h.evidence(f, asJSON)
	}
	return exitUnfinished
}
