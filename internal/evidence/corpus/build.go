// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
)

// buildTimeout is far above what any build takes; one that hangs is a failure.
const buildTimeout = 10 * time.Minute

// built is an update with what the corpus knows of it.
type built struct {
	row  *row
	path string
	man  *manifest.Manifest
}

// buildOne runs the program as a user would, so that a crash is seen as one.
func buildOne(ctx context.Context, o options, f *fix, dir string, r *row) (*built, error) {
	// What is measured is this fix, not how long its name may be.
	name := "lupatch_fix_" + strings.Trim(strings.Map(func(c rune) rune {
		if c >= '0' && c <= '9' {
			return c
		}
		return '_'
	}, strings.SplitN(f.name, "_", 3)[0]+"_"+strings.SplitN(f.name, "_", 3)[1]), "_")
	out := filepath.Join(dir, name+".ko")
	ctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, o.lupatch, "build", "--json", "-j", "1", "--kernel", o.release, "--name", name, "-o", out, f.path)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begin := time.Now()
	err := cmd.Run()
	r.seconds = fmt.Sprintf("%.1f", time.Since(begin).Seconds())
	var exit *exec.ExitError
	switch {
	case err == nil:
		var res struct {
			Manifest *manifest.Manifest `json:"manifest"`
		}
		if err := json.Unmarshal(stdout.Bytes(), &res); err != nil {
			return nil, fmt.Errorf("reading what the build of %s says: %w", f.name, err)
		}
		describe(r, res.Manifest)
		r.outcome = outcomeBuilt
		return &built{row: r, path: out, man: res.Manifest}, nil
	case errors.As(err, &exit) && exit.ExitCode() == refuse.ExitCode:
		var res struct{ Refused refuse.Error }
		if err := json.Unmarshal(stdout.Bytes(), &res); err != nil {
			return nil, fmt.Errorf("reading what the build of %s says: %w", f.name, err)
		}
		r.outcome, r.reason, r.detail = outcomeRefused, string(res.Refused.ID), res.Refused.Where+": "+res.Refused.Detail
		if r.reason == string(refuse.OnlyInit) {
			r.effect = string(manifest.EffectNever)
		}
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		r.outcome, r.reason, r.detail = outcomeFailed, "timeout", buildTimeout.String()
	case ctx.Err() != nil:
		return nil, ctx.Err()
	default:
		r.outcome, r.reason, r.detail = outcomeFailed, "exit", last(stderr.Bytes())
		if bytes.Contains(stderr.Bytes(), []byte("goroutine ")) {
			r.reason = "panic"
		}
	}
	return nil, nil
}

// describe notes what an update replaces and when that does something: the
// best that any of its functions can do.
func describe(r *row, m *manifest.Manifest) {
	rank := []manifest.Effect{manifest.EffectNow, manifest.EffectNextProbe, manifest.EffectNever}
	best := len(rank) - 1
	var units, funcs []string
	for _, u := range m.Units {
		units = append(units, u.Name)
		for _, f := range u.Functions {
			funcs = append(funcs, f.Name)
			if f.New {
				continue
			}
			if i := slices.Index(rank, f.Effect); i >= 0 && i < best {
				best = i
			}
		}
	}
	r.units, r.functions, r.effect = strings.Join(units, ","), strings.Join(funcs, ","), string(rank[best])
}
