// SPDX-License-Identifier: Apache-2.0

// Command demo shows lupatch from end to end on a throwaway host: it builds
// the example updates for a real Debian kernel, boots that kernel with an
// e1000, and applies and takes back each update while a checked TCP stream
// runs through the card.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/lab"
)

const (
	release = "6.1.0-47-amd64"
	// budget is generous: 2 minutes are the rule, 8 with downloads.
	budget = 15 * time.Minute
)

func main() {
	lab.RunIfGuest()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: demo LUPATCH EXAMPLES\n\nLUPATCH is the lupatch program, EXAMPLES the folder with the patches. `make demo` runs it.")
		os.Exit(2)
	}
	if err := run(ctx, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, lupatch, examples string) error {
	s := newScreen(os.Stdout)
	dir, err := os.MkdirTemp("", "lupatch-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	s.title("Booting Debian's %s with an e1000, and building three updates for it", release)
	var host *lab.Host
	boot, bootCtx := errgroup.WithContext(ctx)
	boot.Go(func() (err error) {
		// The host outlives the group, so it gets the outer context.
		host, err = lab.Boot(ctx, lab.Config{Release: release, Init: lupatch, NICs: []lab.NIC{{Model: "e1000"}}})
		return err
	})
	updates := map[string]string{}
	for _, sc := range scenes {
		out := filepath.Join(dir, sc.name+".ko")
		res, err := build.Run(bootCtx, build.Options{
			Patch: filepath.Join(examples, sc.name+".patch"), Release: release, Output: out, Progress: s.progress,
		})
		if err != nil {
			cancelBoot(boot, host)
			return fmt.Errorf("building %s: %w", sc.name, err)
		}
		updates[sc.name] = out
		s.built(sc.name, res)
	}
	if err := boot.Wait(); err != nil {
		return err
	}
	defer host.Close()
	s.line("booted in %.1f s (%s)", host.BootTime.Seconds(), host.Accel)
	if err := play(ctx, s, host, updates); err != nil {
		return fmt.Errorf("%w\n--- end of the host's console ---\n%s", err, tail(host.Console(), 30))
	}
	s.title("Done in %.0f s", time.Since(s.started).Seconds())
	return nil
}

// cancelBoot waits for a boot under way, so that no QEMU is left behind.
func cancelBoot(boot *errgroup.Group, host *lab.Host) {
	if boot.Wait() == nil && host != nil {
		host.Close()
	}
}
