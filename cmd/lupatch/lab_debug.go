// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/lupatch/lupatch/internal/lab/debugkernel"
)

// labDebugKernel builds the debug kernel, if that has not been done.
func labDebugKernel(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("building the debug kernel takes no arguments")
	}
	ctx, stop := signal.NotifyContext(c.Context, os.Interrupt, syscall.SIGTERM)
	defer stop()
	// make is silent for long: its lines are counted for whoever is looking.
	var told string
	progress := func(stage string, done, _ int64) {
		if stage != told || done%500 == 0 && done > 0 && stage == debugkernel.Stage {
			told = stage
			fmt.Fprintf(c.App.ErrWriter, "%s: %d\n", stage, done)
		}
	}
	k, err := debugkernel.Open(ctx, debugkernel.Options{Progress: progress})
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.ErrWriter, "%s: boot it with `lupatch lab run --kernel debug`\n", k.Release)
	fmt.Fprintln(c.App.Writer, k.Build)
	return nil
}
