// SPDX-License-Identifier: Apache-2.0

// Command shadow measures what the replacement of network drivers means for those who
// use them. On a lab host a driver is replaced by another version of it and back, again
// and again, by the commands that users run, while checked TCP and numbered UDP go over
// its card. Runs that are in the table already are not made again.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/lupatch/lupatch/internal/evidence/record"
	"github.com/lupatch/lupatch/internal/lab"
)

type options struct {
	lupatch, table, only string
	swaps                int
}

func main() {
	lab.RunIfGuest()
	var o options
	flag.StringVar(&o.lupatch, "lupatch", "bin/lupatch-points", "the lupatch `PROGRAM` to measure, built with the tag crashpoints")
	flag.StringVar(&o.table, "table", "", "`FILE` (TSV) that holds the results and is continued")
	flag.StringVar(&o.only, "run", ".", "only runs whose name matches this `EXPRESSION`")
	flag.IntVar(&o.swaps, "swaps", 0, "so many replacements instead of each run's own number")
	flag.Parse()
	if o.table == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := all(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "shadow:", err)
		os.Exit(1)
	}
}

var columns = []string{"run", "module", "kernel", "tried", "applied", "refused", "open_ms_median", "open_ms_worst",
	"packet_ms_median", "packet_ms_worst", "tcp_mb", "tcp_wrong", "tcp_retransmits", "tcp_gap_ms", "udp_sent", "udp_lost", "udp_gap_ms", "memory_kb", "faults", "lockdep", "remark"}

func all(ctx context.Context, o options) error {
	only, err := regexp.Compile(o.only)
	if err != nil {
		return err
	}
	tree, err := record.TreeHash(ctx)
	if err != nil {
		return err
	}
	t, err := record.Open(o.table, "drivers replaced by lupatch under TCP and UDP in a lab host (TCG, 2 processors), by make evidence-shadow", tree, columns...)
	if err != nil {
		return err
	}
	if o.lupatch, err = filepath.Abs(o.lupatch); err != nil {
		return err
	}
	for _, r := range runs {
		if !only.MatchString(r.name) || t.Has(r.name) {
			continue
		}
		if o.swaps > 0 {
			r.swaps = o.swaps
		}
		fmt.Fprintf(os.Stderr, "%s: %d replacements of %s\n", r.name, r.swaps, r.card.module)
		row, err := r.row(ctx, o)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s\n", strings.Join(row, " | "))
		if err := t.Put(row...); err != nil {
			return err
		}
	}
	return nil
}

func (r *one) row(ctx context.Context, o options) ([]string, error) {
	if r.idle {
		return r.measureIdle(ctx, o)
	}
	m, err := r.measure(ctx, o)
	if err != nil {
		return nil, err
	}
	return m.cells(), nil
}
