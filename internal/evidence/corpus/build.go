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
	// word says that it took the author's word on changed data.
	word bool
}

// set records what came of loading it.
func (b *built) set(outcome, reason, detail string) {
	if b.word {
		b.row.word = strings.TrimSuffix(outcome+" "+reason, " ")
		return
	}
	b.row.outcome, b.row.reason, b.row.detail = outcome, reason, detail
}

// buildOne builds a fix, with no options and no hand work.
func buildOne(ctx context.Context, o options, f *fix, dir string, r *row) (*built, error) {
	begin := time.Now()
	a, err := attempt(ctx, o, f, filepath.Join(dir, nameOf(f)+".ko"))
	if err != nil {
		return nil, err
	}
	r.seconds = fmt.Sprintf("%.1f", time.Since(begin).Seconds())
	switch {
	case a.man != nil:
		describe(r, a.man)
		r.outcome = outcomeBuilt
		return &built{row: r, path: a.path, man: a.man}, nil
	case a.refused != nil:
		r.outcome, r.reason, r.detail = outcomeRefused, string(a.refused.ID), a.refused.Where+": "+a.refused.Detail
		if a.refused.ID == refuse.OnlyInit {
			r.effect = string(manifest.EffectNever)
		}
	default:
		r.outcome, r.reason, r.detail = outcomeFailed, a.failure, a.said
	}
	return nil, nil
}

// nameOf names an update: what is measured is the fix, not how long its name may be.
func nameOf(f *fix) string {
	parts := strings.SplitN(f.name, "_", 3)
	return "lupatch_fix_" + strings.Trim(strings.Map(func(c rune) rune {
		if c >= '0' && c <= '9' {
			return c
		}
		return '_'
	}, parts[0]+"_"+parts[1]), "_")
}

// attempted is what came of one build: an update, a refusal or a failure.
type attempted struct {
	path          string
	man           *manifest.Manifest
	refused       *refuse.Error
	failure, said string
}

// attempt runs the program as a user would, so that a crash is seen as one.
func attempt(ctx context.Context, o options, f *fix, out string, args ...string) (*attempted, error) {
	tctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	name := strings.TrimSuffix(filepath.Base(out), ".ko")
	argv := append([]string{"build", "--json", "-j", "1", "--kernel", o.release, "--name", name, "-o", out}, args...)
	cmd := exec.CommandContext(tctx, o.lupatch, append(argv, f.path)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case tctx.Err() != nil:
		return &attempted{failure: "timeout", said: buildTimeout.String()}, nil
	case err == nil, errors.As(err, &exit) && exit.ExitCode() == refuse.ExitCode:
		var res struct {
			Manifest *manifest.Manifest `json:"manifest"`
			Refused  *refuse.Error
		}
		if err := json.Unmarshal(stdout.Bytes(), &res); err != nil {
			return nil, fmt.Errorf("reading what the build of %s says: %w", f.name, err)
		}
		return &attempted{path: out, man: res.Manifest, refused: res.Refused}, nil
	case bytes.Contains(stderr.Bytes(), []byte("goroutine ")):
		return &attempted{failure: "panic", said: last(stderr.Bytes())}, nil
	}
	return &attempted{failure: "exit", said: last(stderr.Bytes())}, nil
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
