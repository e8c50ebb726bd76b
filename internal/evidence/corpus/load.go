// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/lab"
	"github.com/lupatch/lupatch/patchgen"
)

const (
	// perBoot updates share a host: a boot takes as long as a few updates, and a
	// fault is searched for among as many.
	perBoot = 40
	// verbTimeout bounds apply and rollback in the guest.
	verbTimeout = 3 * time.Minute
)

// load puts updates into a throwaway host and takes them back, one after the
// other. What it finds is written into their rows; an error is one of the lab.
func load(ctx context.Context, o options, batch []*built) error {
	conf := lab.Config{Release: o.release, Init: o.lupatch, Memory: 2048}
	seen := map[string]bool{}
	for _, b := range batch {
		conf.Files = append(conf.Files, lab.File{Host: b.path, Path: inGuest(b)})
		for _, u := range b.man.Units {
			if u.Name != patchgen.VMLinux && !seen[u.Name] {
				seen[u.Name] = true
				conf.Available = append(conf.Available, u.Name)
			}
		}
	}
	h, err := lab.Boot(ctx, conf)
	if err != nil {
		return fmt.Errorf("booting a lab host: %w", err)
	}
	defer h.Close()
	for _, b := range batch {
		if err := loadOne(ctx, h, b); err != nil {
			return err
		}
	}
	return h.Shutdown(ctx)
}

func inGuest(b *built) string { return "/updates/" + path.Base(b.path) }

func loadOne(ctx context.Context, h *lab.Host, b *built) error {
	// A driver may complain when there is no hardware; that is not the
	// update's doing, so that faults are counted from here on.
	var present, absent []string
	for _, u := range b.man.Units {
		if u.Name == patchgen.VMLinux {
			continue
		}
		err := h.Modprobe(ctx, u.Name, "")
		var no unix.Errno
		switch {
		case err == nil:
			present = append(present, u.Name)
		case errors.As(err, &no):
			absent = append(absent, u.Name+" ("+no.Error()+")")
		default:
			return err
		}
	}
	b.row.target = "loaded"
	if len(absent) > 0 {
		b.row.target = "absent: " + strings.Join(absent, ", ")
	}
	if b.word && len(absent) > 0 {
		// Variables of a module are written when it is there, or not at all.
		b.set(outcomeBuilt, "for a module that does not load here", "")
		return nil
	}
	before := len(h.Faults())
	bad := cycle(ctx, h, b)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := h.Ping(ctx); err != nil {
		b.set(outcomeFailed, "host-lost", err.Error())
		return fmt.Errorf("after %s: %w", b.row.fix, err)
	}
	for _, f := range h.Faults()[before:] {
		bad = errors.Join(bad, errors.New(f.String()))
	}
	if bad != nil {
		b.set(outcomeFailed, "load", bad.Error())
	} else {
		b.set(outcomeLoaded, "", "")
	}
	for _, m := range present {
		if err := h.Rmmod(ctx, m); err != nil && !isErrno(err) {
			return err
		}
	}
	return nil
}

func isErrno(err error) bool {
	var no unix.Errno
	return errors.As(err, &no)
}

// cycle applies an update, looks whether the kernel says so, and takes it back.
func cycle(ctx context.Context, h *lab.Host, b *built) error {
	name := b.man.Name
	for _, step := range []struct {
		argv    []string
		enabled bool
	}{
		{[]string{"lupatch", "apply", "--yes", "--json", "--probation", "0", inGuest(b)}, true},
		{[]string{"lupatch", "rollback", "--yes", "--json", name}, false},
	} {
		r, err := h.Run(ctx, lab.Cmd{Argv: step.argv, Timeout: verbTimeout})
		if err != nil {
			return err
		}
		if r.Code != 0 {
			return fmt.Errorf("%s: status %d: %s %s", step.argv[1], r.Code, r.Stdout, r.Stderr)
		}
		// Once disabled, a livepatch has no folder in sysfs.
		s, err := h.Sh(ctx, "cat /sys/kernel/livepatch/"+name+"/enabled 2>/dev/null || echo 0")
		if err != nil {
			return err
		}
		if on := strings.TrimSpace(string(s.Stdout)) == "1"; on != step.enabled {
			return fmt.Errorf("%s: the kernel says enabled=%s", step.argv[1], strings.TrimSpace(string(s.Stdout)))
		}
	}
	return nil
}
