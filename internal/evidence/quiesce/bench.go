// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/quiesce"
	"github.com/lupatch/lupatch/quiesce/quiescetest"
)

// bench is what trials need: the module and the update, and this program.
type bench struct {
	dir, module, update, self string
}

func makeBench(ctx context.Context, o options) (*bench, error) {
	dir, err := os.MkdirTemp("", "lupatch-quiesce-")
	if err != nil {
		return nil, err
	}
	b := &bench{dir: dir, update: filepath.Join(dir, "lupatch_load.ko")}
	if err := b.make(ctx, o); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return b, nil
}

func (b *bench) make(ctx context.Context, o options) (err error) {
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if err := quiescetest.Write(b.dir); err != nil {
		return err
	}
	tree, err := kbuild.Open(ctx, kbuild.Options{Release: o.release})
	if err != nil {
		return err
	}
	source := quiescetest.Source(b.dir)
	if b.module, err = tree.LinkModule(ctx, source, quiescetest.Module); err != nil {
		return err
	}
	_, err = build.Run(ctx, build.Options{Patch: quiescetest.Patch(b.dir, "load"), Dir: source, Release: o.release, Name: "lupatch_load", Output: b.update})
	return err
}

// trial is one result.
type trial struct {
	number, tasks int
	// predicted are the threads seen in the functions right before the load,
	// waited those the transition waited for because they were in them, first
	// those of its first look.
	predicted, waited, first map[int]bool
	// pass is the time of the pass that predicted, look of passes right after.
	pass       time.Duration
	look       times
	transition time.Duration
}

// trials runs some on one host and hands each over.
func (b *bench) trials(ctx context.Context, o options, numbers []int, put func(*trial) error) error {
	h, err := lab.Boot(ctx, lab.Config{
		Release: o.release, Init: o.lupatch, Memory: 768,
		// The kernel has much to say in a trial, none of it on the console.
		Cmdline: []string{"log_buf_len=8M"},
		Files: []lab.File{{Path: "/root/busy.ko", Host: b.module}, {Path: "/root/load.ko", Host: b.update},
			{Path: "/root/evidence", Host: b.self, Mode: 0o755}},
	})
	if err != nil {
		return err
	}
	defer h.Close()
	if _, err := sh(ctx, h, "dmesg -n 1; insmod /root/busy.ko && echo 'file kernel/livepatch/transition.c +p' > /sys/kernel/debug/dynamic_debug/control"); err != nil {
		return err
	}
	ready := make(chan struct{}, 1)
	seed := o.seed + uint64(numbers[0])
	p, err := h.Start(ctx, lab.Cmd{Argv: []string{"/root/evidence", strconv.Itoa(o.tasks), strconv.FormatUint(seed, 10), o.longest.String()},
		Env: []string{role + "=load"}, Timeout: -1, Stdout: notice(ready), Stderr: os.Stderr})
	if err != nil {
		return err
	}
	select {
	case <-ready:
	case <-p.Done():
		return fmt.Errorf("the load ended before it began")
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, n := range numbers {
		t, err := one(ctx, h, n)
		if err != nil {
			return fmt.Errorf("trial %d: %w", n, err)
		}
		if err := put(t); err != nil {
			return err
		}
		select {
		case <-p.Done():
			return fmt.Errorf("trial %d: the load has ended", n)
		default:
		}
	}
	if f := h.Faults(); len(f) > 0 {
		return fmt.Errorf("a fault in the lab host: %s", f[0])
	}
	return nil
}

// one applies the update and takes it back.
func one(ctx context.Context, h *lab.Host, number int) (*trial, error) {
	if _, err := sh(ctx, h, "dmesg -c > /dev/null"); err != nil {
		return nil, err
	}
	var applied struct {
		Applied []struct {
			Transition time.Duration `json:"transition_ns"`
			Predicted  *quiesce.Pass
		}
	}
	if err := answer(ctx, h, &applied, nil, "lupatch", "apply", "--json", "/root/load.ko"); err != nil {
		return nil, err
	}
	log, err := sh(ctx, h, "dmesg -c")
	if err != nil {
		return nil, err
	}
	r := applied.Applied[0]
	if r.Predicted == nil || r.Predicted.Way != quiesce.WayBPF {
		return nil, fmt.Errorf("nothing was predicted by BPF: %+v", r.Predicted)
	}
	t := &trial{number: number, tasks: r.Predicted.Tasks, predicted: map[int]bool{}, pass: r.Predicted.Took, transition: r.Transition}
	for _, b := range r.Predicted.Seen() {
		t.predicted[b.TID] = true
	}
	if t.waited, t.first, err = waited(log, "lupatch_load"); err != nil {
		return nil, err
	}
	if err := answer(ctx, h, &t.look, []string{role + "=times"}, "/root/evidence"); err != nil {
		return nil, err
	}
	return t, answer(ctx, h, &struct{}{}, nil, "lupatch", "rollback", "--json")
}

// answer runs a command that prints JSON.
func answer(ctx context.Context, h *lab.Host, v any, env []string, argv ...string) error {
	const long = 3 * time.Minute
	r, err := h.Run(ctx, lab.Cmd{Argv: argv, Env: env, Timeout: long})
	if err != nil {
		return err
	}
	if r.Code != 0 {
		return fmt.Errorf("%q: status %d: %s%s", argv, r.Code, r.Stdout, r.Stderr)
	}
	return json.Unmarshal(r.Stdout, v)
}

func sh(ctx context.Context, h *lab.Host, script string) (string, error) {
	r, err := h.Sh(ctx, script)
	if err != nil {
		return "", err
	}
	if r.Code != 0 {
		return "", fmt.Errorf("%s: status %d: %s%s", script, r.Code, r.Stdout, r.Stderr)
	}
	return string(r.Stdout), nil
}

// notice is told of the first output.
type notice chan struct{}

func (n notice) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("ready")) {
		select {
		case n <- struct{}{}:
		default:
		}
	}
	return len(b), nil
}
