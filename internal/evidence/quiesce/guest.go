// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/quiesce"
	"github.com/lupatch/lupatch/quiesce/quiescetest"
)

// role is the variable by which this program, put into the guest, knows what it
// is to do there.
const role = "LUPATCH_EVIDENCE_ROLE"

// times are what looking costs in the guest.
type times struct {
	// Open is the preparation, BPF and Procfs are passes.
	Open, BPF, Procfs time.Duration
	Tasks             int
}

// functions are those that the update replaces.
func functions() []quiesce.Function {
	return []quiesce.Function{{Unit: quiescetest.Module, Name: "lubusy_first"}, {Unit: quiescetest.Module, Name: "lubusy_second"}}
}

// inGuest does its part if this runs in the guest.
func inGuest() bool {
	var err error
	switch what := os.Getenv(role); what {
	case "":
		return false
	case "load":
		err = load()
	case "times":
		err = printTimes()
	default:
		err = fmt.Errorf("no role %q", what)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

// load is called as PROGRAM TASKS SEED LONGEST.
func load() error {
	tasks, err := strconv.Atoi(os.Args[1])
	if err != nil {
		return err
	}
	seed, err := strconv.ParseUint(os.Args[2], 10, 64)
	if err != nil {
		return err
	}
	longest, err := time.ParseDuration(os.Args[3])
	if err != nil {
		return err
	}
	return quiescetest.Load(context.Background(), tasks, seed, longest, func() { fmt.Println("ready") })
}

func printTimes() error {
	ctx, begin := context.Background(), time.Now()
	o, err := quiesce.Open(kpatch.Running(), functions())
	if err != nil {
		return err
	}
	defer o.Close()
	t := times{Open: time.Since(begin)}
	p, err := o.Pass(ctx)
	if err != nil {
		return err
	}
	if p.Way != quiesce.WayBPF {
		return fmt.Errorf("no pass by BPF: %s", p.Why)
	}
	t.BPF, t.Tasks = p.Took, p.Tasks
	if err := o.UseProcfs("to be measured"); err != nil {
		return err
	}
	if p, err = o.Pass(ctx); err != nil {
		return err
	}
	t.Procfs = p.Took
	return json.NewEncoder(os.Stdout).Encode(t)
}
