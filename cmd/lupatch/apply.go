// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"

	"github.com/lupatch/lupatch/update"
)

var (
	deadlineFlag = &cli.DurationFlag{Name: "deadline", Value: update.DefaultDeadline, Usage: "how long (`TIME`) tasks may take to leave the code that is replaced; then all is taken back"}
	forceFlag    = &cli.BoolFlag{Name: "force", Usage: "count tasks as moved that have not at the deadline (with --yes only)"}
	yesFlag      = &cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask, on a terminal"}
	dryRunFlag   = &cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "check only; change nothing"}
)

func (h *host) applyCommand() *cli.Command {
	return &cli.Command{
		Name:      "apply",
		Usage:     "put updates into the running kernel",
		ArgsUsage: "FILE...",
		Description: `Loads the updates in the order given, as one change: all of them are in force
at the end, or none. A task moves to the new code when it is in none of the
functions that are replaced; tasks that do not until the deadline are named, and
everything is taken back. Needs root. What it would meet is shown by
` + "`lupatch plan`" + `.

With --force tasks that have not moved at the deadline are counted as moved. They
may then run old and new code mixed: the host owes a reboot, status says so, and
the module stays in memory until then.

After that the updates are on probation: what the kernel reports as a fault in their
code or in a module they change, a task that hangs there, or a health check that
fails takes everything back (exit code 6) and is shown with the kernel's own lines.
Other faults are shown, and change nothing. An interrupt (^C) takes everything back
up to the end of probation. LUPATCH_PROBATION sets another default for its time.

Examples:
   lupatch apply fix.ko
   lupatch apply --dry-run fix.ko     would it be accepted?
   lupatch apply --deadline 5m first.ko second.ko
   lupatch apply --probation 2m --health-check 'curl -sf localhost/ >/dev/null' fix.ko
   lupatch apply --wait-quiet=30s fix.ko   begin when nobody is in that code
   lupatch apply --force --yes fix.ko      last resort, see above
   lupatch apply --yes --json fix.ko  for scripts
   lupatch apply e1000.ko             replace the driver e1000 by this one, live

A module that is no livepatch replaces the driver of its name whole: see
` + "`lupatch shadow --help`" + `. Its devices stay as they are for everybody else; packets
wait for some tenths of a second, and for the link where the driver resets that.`,
		Flags: append([]cli.Flag{deadlineFlag, quietFlag(), forceFlag, incompatibleFlag, untestedFlag, dryRunFlag, yesFlag, jsonFlag}, probationFlags()...),
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return &usageError{"apply needs at least one update file", "apply"}
			}
			if c.Bool("force") && !c.Bool("yes") {
				return &usageError{"--force wants --yes, too: tasks may run old and new code mixed, until a reboot", "apply"}
			}
			if c.Duration("deadline") <= 0 {
				return &usageError{"the deadline has to be positive", "apply"}
			}
			files, opt := c.Args().Slice(), h.options(c)
			var err error
			if opt.Probation, err = probationOptions(c); err != nil {
				return err
			}
			if driver, err := driverAmong(files); err != nil {
				return err
			} else if driver {
				return h.applyDriver(c, files[0], opt)
			}
			asked := h.asks(c) && !opt.DryRun
			if asked {
				if err := h.review(c, files); err != nil {
					return err
				}
			}
			// Before: afterwards it cannot be told who ran which code.
			ran, err := h.alreadyRanFiles(files)
			if err != nil {
				return err
			}
			if !opt.DryRun {
				h.warnPanics(opt.Probation)
			}
			results, err := h.update().Apply(c.Context, files, opt)
			if err != nil {
				return err
			}
			key, verb := "applied", "applied"
			if opt.DryRun {
				key, verb = "would_apply", "can be applied"
			}
			if !asked && !c.Bool("json") {
				warn(results)
			}
			if c.Bool("json") {
				answer := map[string]any{key: results}
				if len(ran) > 0 {
					answer["already_run_here"] = ran
				}
				return printJSON(h.out, answer)
			}
			for _, r := range results {
				fmt.Fprintf(h.out, "%s: %s%s\n", r.Update, verb, took(r.Transition))
				if r.Forced != nil {
					fmt.Fprintf(h.out, "  forced while it waited for %s; reboot this host soon\n", r.Forced.Waited)
				}
				for _, line := range lines(ran[r.Update]) {
					fmt.Fprintf(h.out, "  %s\n", line)
				}
			}
			tellProbation(h.out, results)
			return nil
		},
	}
}

// options takes the options of a change from the command line.
func (h *host) options(c *cli.Context) update.Options {
	opt := update.Options{Deadline: c.Duration("deadline"), DryRun: c.Bool("dry-run"), WaitQuiet: quiet(c), Force: c.Bool("force")}
	if !c.Bool("json") {
		opt.Progress = newProgress(h.err, h.errTerminal).event
	}
	return opt
}

// asks says whether the user is asked before a change: on a terminal only, as
// nobody answers elsewhere.
func (h *host) asks(c *cli.Context) bool {
	return h.inTerminal && h.errTerminal && !c.Bool("yes") && !c.Bool("json")
}

// review shows what is about to be applied, once it is known to be acceptable,
// and asks.
func (h *host) review(c *cli.Context, files []string) error {
	results, err := h.update().Apply(c.Context, files, update.Options{DryRun: true})
	if err != nil {
		return err
	}
	warn(results)
	for _, r := range results {
		fmt.Fprintf(h.err, "%s: %s\n", r.Update, summary(r.Manifest))
		for _, p := range r.Manifest.Review {
			fmt.Fprintf(h.err, "  review: %s\n", p)
		}
		ran, err := h.alreadyRan(r.Manifest)
		if err != nil {
			return err
		}
		for _, line := range lines(ran) {
			fmt.Fprintf(h.err, "  %s\n", line)
		}
	}
	return h.ask("Apply?")
}

// ask ends the command unless the answer is yes.
func (h *host) ask(question string) error {
	fmt.Fprintf(h.err, "%s [y/N] ", question)
	line, _ := bufio.NewReader(h.in).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	fmt.Fprintln(h.err, "nothing was changed")
	return quietError{}
}

// warn says what speaks against updates that are accepted, each sentence once.
func warn(results []update.Result) {
	said := map[string]bool{}
	for _, r := range results {
		for _, w := range r.Warnings {
			if !said[w] {
				logrus.Warn(w)
			}
			said[w] = true
		}
	}
}

func took(d time.Duration) string {
	const noticeable = 100 * time.Millisecond
	if d < noticeable {
		return ""
	}
	return fmt.Sprintf(" (all tasks after %s)", d.Round(noticeable))
}
