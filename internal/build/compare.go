// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"

	"github.com/lupatch/lupatch/patchgen"
)

// compare makes the results of all units, until all that call what is moved are
// among the units.
func (j *job) compare(ctx context.Context, units []*unit) ([]*unit, *moves, error) {
	shared, err := j.shared(units)
	if err != nil {
		return nil, nil, err
	}
	m := &moves{job: j}
	for {
		var found []*move
		for i, u := range units {
			newBytes := []byte(nil)
			if u.lines, newBytes, err = readDebug(u); err != nil {
				return nil, nil, err
			}
			u.input = patchgen.Input{
				Unit: u.tu.Unit, Old: u.old, New: u.new, Sizes: j.sizes, Lines: j.change.lines[u.tu.Source], OldLines: u.lines,
				LateObjtool: u.tu.Late != nil, Kernel: j.symbolsOf(u), Provided: shared.provided(u), LinkNames: shared.linkNames(u),
				AliasPrefix: fmt.Sprintf("lupatch_new_%d_", i), NewObject: newBytes, Data: j.rulesFor(u),
			}
			if u.input.Stacked, err = j.stacked(u); err != nil {
				return nil, nil, err
			}
			m.tell(u, &u.input)
			if u.result, err = patchgen.Generate(u.input); err != nil {
				return nil, nil, err
			}
			for _, name := range u.result.Untraced {
				found = append(found, newMove(u, name))
			}
		}
		if len(found) == 0 {
			return units, m, nil
		}
		if units, err = m.add(ctx, units, found); err != nil {
			return nil, nil, err
		}
	}
}
