// SPDX-License-Identifier: Apache-2.0

package build

import (
	"os"

	"github.com/lupatch/lupatch/patchgen"
)

// LineMaps says for each file that a patch changes where the lines of the source
// below root stand in the new version, for those who compare objects themselves.
func LineMaps(patch, root string) (map[string]*patchgen.LineMap, error) {
	text, err := os.ReadFile(patch)
	if err != nil {
		return nil, err
	}
	c, err := readPatch(patch, text, root, DefaultFuzz)
	if err != nil {
		return nil, err
	}
	return c.lines, nil
}
