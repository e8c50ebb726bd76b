// SPDX-License-Identifier: Apache-2.0

// Command quiesce measures how well tasks in the way of an update are foretold.
// On a lab host many tasks enter functions of a module at random, sleep in there,
// leave, and do other things; the functions are updated again and again. What
// lupatch saw right before each load is held against what the transition waited
// for, which the kernel says itself (dynamic debug of
// kernel/livepatch/transition.c). It can be interrupted at any time and goes on
// where it was.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/lupatch/lupatch/internal/evidence/record"
	"github.com/lupatch/lupatch/internal/lab"
)

// options are the command line.
type options struct {
	lupatch, release string
	table            string
	trials, tasks    int
	seed             uint64
	longest          time.Duration
}

func main() {
	lab.RunIfGuest()
	if inGuest() {
		return
	}
	var o options
	flag.StringVar(&o.lupatch, "lupatch", "bin/lupatch", "the lupatch `PROGRAM` to measure")
	flag.StringVar(&o.release, "kernel", "6.1.0-47-amd64", "the kernel `RELEASE`")
	flag.StringVar(&o.table, "table", "", "`FILE` (TSV) that holds the results and is continued")
	flag.IntVar(&o.trials, "n", 50, "so many trials in all")
	flag.IntVar(&o.tasks, "tasks", 200, "so many tasks")
	flag.Uint64Var(&o.seed, "seed", 1, "what the tasks' choices are drawn with")
	flag.DurationVar(&o.longest, "longest", 14*time.Second, "the longest that a task stays in a function; after 15 seconds the kernel wakes it")
	flag.Parse()
	if o.table == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "quiesce:", err)
		os.Exit(1)
	}
}

// restart is how many trials a host is used for: each leaves a little in its log
// and its memory.
const restart = 25

func run(ctx context.Context, o options) error {
	tree, err := record.TreeHash(ctx)
	if err != nil {
		return err
	}
	t, err := openTable(o.table, tree, o)
	if err != nil {
		return err
	}
	b, err := makeBench(ctx, o)
	if err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	for todo := t.missing(o.trials); len(todo) > 0; {
		n := min(len(todo), restart)
		if err := b.trials(ctx, o, todo[:n], t.put); err != nil {
			return err
		}
		todo = todo[n:]
	}
	fmt.Print(t.all().summary())
	return nil
}
