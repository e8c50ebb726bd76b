// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/update"
)

var (
	incompatibleFlag = &cli.StringFlag{Name: "incompatible", Value: "refuse", Usage: "`WHAT` to do about a driver that offers less than the one it replaces: refuse, or continue and fail what asks for it"}
	untestedFlag     = &cli.BoolFlag{Name: "untested-driver", Usage: "replace a driver although nobody has tried that with it yet"}
)

// driverOptions adds what is for drivers alone.
func driverOptions(c *cli.Context, opt *update.Options, verb string) error {
	switch c.String("incompatible") {
	case "refuse", "":
	case "continue":
		opt.Lenient = true
	default:
		return &usageError{"--incompatible is refuse or continue", verb}
	}
	opt.Untested = c.Bool("untested-driver")
	return nil
}

// driverAmong says whether the files are one driver; a driver among others is a
// usage error, as each is a change of its own.
func driverAmong(files []string) (bool, error) {
	n := 0
	for _, f := range files {
		if _, m, err := manifest.ReadUpdate(f); err == nil && m.Method == "driver" {
			n++
		}
	}
	if n > 0 && len(files) > 1 {
		return false, &usageError{"a driver is replaced by itself: give one file", "apply"}
	}
	return n == 1, nil
}

func (h *host) applyDriver(c *cli.Context, file string, opt update.Options) error {
	if err := driverOptions(c, &opt, "apply"); err != nil {
		return err
	}
	front := !opt.DryRun && os.Getenv(inWorker) == "" && h.kernel.Root == ""
	if front && h.asks(c) {
		r, err := h.update().ApplyDriver(c.Context, file, update.Options{DryRun: true, Lenient: opt.Lenient, Untested: opt.Untested})
		if err != nil {
			return err
		}
		warn([]update.Result{*r})
		fmt.Fprintf(h.err, "%s: replaces the driver %s\n", r.Update, r.Module)
		if err := h.ask("Apply?"); err != nil {
			return err
		}
	}
	if front {
		return h.work()
	}
	if !opt.DryRun {
		defer stayAwake().Close()
	}
	r, err := h.update().ApplyDriver(c.Context, file, opt)
	if err != nil {
		return err
	}
	return h.tellDriver(c, r, opt.DryRun, "applied", "applied")
}

// tellDriver prints what became of the replacement of a driver.
func (h *host) tellDriver(c *cli.Context, r *update.Result, dry bool, key, verb string) error {
	if dry {
		key, verb = "would_apply", "can be applied"
	}
	if c.Bool("json") {
		return printJSON(h.out, map[string]any{key: []update.Result{*r}})
	}
	fmt.Fprintf(h.out, "%s: %s\n", r.Update, verb)
	tellOutages(h.out, r.Devices)
	for _, w := range r.Warnings {
		fmt.Fprintf(h.out, "  %s\n", w)
	}
	tellProbation(h.out, []update.Result{*r})
	return nil
}

func tellOutages(w io.Writer, list []update.Outage) {
	ms := func(d time.Duration) string {
		if d == 0 {
			return "-"
		}
		return d.Round(time.Millisecond).String()
	}
	for _, o := range list {
		fmt.Fprintf(w, "  %s (%s): open again after %s, link after %s, first packet after %s\n", o.Device, o.Parent, ms(o.Reopened), ms(o.Carrier), ms(o.FirstPacket))
	}
}

// guardCommand is for processes that lupatch starts itself.
func (h *host) guardCommand() *cli.Command {
	return &cli.Command{
		Name: update.GuardVerb, Hidden: true,
		Action: func(c *cli.Context) error {
			return update.Guard(c.Context, h.update(), os.Stdin, os.Stdout)
		},
	}
}

// namesDriver gives the name of the update of a replaced driver that name means; empty
// if it means something else. No name means one if nothing else is in force.
func (h *host) namesDriver(name string) (string, error) {
	all, err := h.update().DriversInForce()
	if err != nil || len(all) == 0 {
		return "", err
	}
	for _, list := range all {
		for _, v := range list[1:] {
			if name == v.Manifest.Name || name == v.Module {
				return name, nil
			}
		}
	}
	if name != "" {
		return "", nil
	}
	state, err := h.update().State(context.Background())
	if err != nil || len(state.Updates) > 0 || len(all) > 1 {
		return "", err
	}
	last := all[0]
	return last[len(last)-1].Manifest.Name, nil
}

func (h *host) rollbackDriver(c *cli.Context, name string, opt update.Options) error {
	front := !opt.DryRun && os.Getenv(inWorker) == "" && h.kernel.Root == ""
	if front && h.asks(c) {
		r, err := h.update().RollbackDriver(c.Context, name, update.Options{DryRun: true})
		if err != nil {
			return err
		}
		if err := h.ask("Take " + r.Update + " back?"); err != nil {
			return err
		}
	}
	if front {
		return h.work()
	}
	if !opt.DryRun {
		defer stayAwake().Close()
	}
	// Whatever the older driver lacks, the host has lived with it.
	opt.Lenient = true
	r, err := h.update().RollbackDriver(c.Context, name, opt)
	if err != nil {
		return err
	}
	if opt.DryRun {
		return h.tellDriver(c, r, false, "would_roll_back", "can be taken back")
	}
	return h.tellDriver(c, r, false, "rolled_back", "taken back")
}

func (h *host) planDriver(c *cli.Context, file string) error {
	var opt update.Options
	if err := driverOptions(c, &opt, "plan"); err != nil {
		return err
	}
	p, err := h.update().PlanDriver(c.Context, file, opt)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		err = printJSON(h.out, p)
	} else {
		printDriverPlan(h.out, p)
	}
	if err == nil && p.Refused != nil {
		err = cli.Exit("", refuse.ExitCode)
	}
	return err
}

func printDriverPlan(w io.Writer, p *update.DriverPlan) {
	fmt.Fprintf(w, "%s replaces the driver %s: version %d (build id %.12s…) → %d (%.12s…)\n", p.Update, p.Module, p.From.Version, p.From.BuildID, p.To.Version, p.To.BuildID)
	if len(p.Devices) > 0 {
		fmt.Fprintf(w, "interfaces that stand still meanwhile: %s\n", strings.Join(p.Devices, ", "))
	}
	if p.Params != "" {
		fmt.Fprintf(w, "parameters: %s\n", p.Params)
	}
	if len(p.Load) > 0 {
		fmt.Fprintf(w, "modules loaded before it: %s\n", strings.Join(p.Load, ", "))
	}
	for _, n := range p.Notes {
		fmt.Fprintf(w, "  %s\n", n)
	}
	if r := p.Refused; r != nil {
		fmt.Fprintf(w, "would be refused (%s): %s\nremedy: %s\n", r.ID, oneLine(r.Detail), oneLine(r.Advice()))
		return
	}
	fmt.Fprintln(w, "would be tried; what the new driver offers shows when it registers its devices, and less than before takes it back")
}
