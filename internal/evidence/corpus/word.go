// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"path/filepath"

	"github.com/lupatch/lupatch/internal/refuse"
)

// mostWords bounds how many variables of one fix the author is asked about.
const mostWords = 8

// withWord builds a fix that was refused because of changed data once more, with
// the option that the refusal names: the author's word that the new values may
// simply be written. Whether that would be right for the fix, nobody has judged;
// it shows whether the mechanism carries it.
func withWord(ctx context.Context, o options, f *fix, dir string, r *row, where string) (*built, error) {
	var args []string
	for range mostWords {
		args = append(args, "--data", where+"=write@pre")
		a, err := attempt(ctx, o, f, filepath.Join(dir, nameOf(f)+"_w.ko"), args...)
		if err != nil {
			return nil, err
		}
		switch {
		case a.man != nil:
			r.word = outcomeBuilt
			return &built{row: r, path: a.path, man: a.man, word: true}, nil
		case a.refused == nil:
			r.word = outcomeFailed + " " + a.failure
			return nil, nil
		case a.refused.ID == refuse.DataChanged && a.refused.Where != where:
			where = a.refused.Where
		default:
			r.word = outcomeRefused + " " + string(a.refused.ID)
			return nil, nil
		}
	}
	r.word = outcomeRefused + " " + string(refuse.DataChanged)
	return nil, nil
}
