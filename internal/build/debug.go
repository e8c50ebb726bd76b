// SPDX-License-Identifier: Apache-2.0

package build

import (
	"fmt"
	"os"

	"github.com/lupatch/lupatch/patchgen"
)

// checkLayouts looks at the structures, which the objects' code does not show.
func checkLayouts(oldPath, newPath string) error {
	old, err := os.ReadFile(oldPath)
	if err != nil {
		return err
	}
	new, err := os.ReadFile(newPath)
	if err != nil {
		return err
	}
	return patchgen.CheckLayouts(old, new)
}

// readDebug reads where the old version's functions stand in the source. It also
// gives the new version's object file.
func readDebug(u *unit) (patchgen.Extents, []byte, error) {
	old, err := os.ReadFile(u.oldPath)
	if err != nil {
		return nil, nil, err
	}
	new, err := os.ReadFile(u.newPath)
	if err != nil {
		return nil, nil, err
	}
	lines, err := patchgen.ReadExtents(old, u.tu.Source)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the source lines of %s: %w", u.tu.Source, err)
	}
	return lines, new, nil
}
