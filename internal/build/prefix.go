// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"regexp"
)

// bareHeader is the first line of a file in a git diff.
var bareHeader = regexp.MustCompile(`^diff --git (\S+) (\S+)\r?\n?$`)

// addPrefixes gives paths of a git diff the prefixes a/ and b/ if it was made
// without (diff.noprefix): the parser always takes the first folder away. Such
// a header has the same path twice.
func addPrefixes(text []byte) []byte {
	lines := bytes.SplitAfter(text, []byte("\n"))
	bare := false
	for i, l := range lines {
		if m := bareHeader.FindSubmatch(l); m != nil {
			if bare = bytes.Equal(m[1], m[2]); bare {
				lines[i] = []byte("diff --git a/" + string(m[1]) + " b/" + string(m[2]) + "\n")
			}
			continue
		}
		if !bare {
			continue
		}
		for mark, prefix := range map[string]string{"--- ": "a/", "+++ ": "b/"} {
			if rest, ok := bytes.CutPrefix(l, []byte(mark)); ok && !bytes.HasPrefix(rest, []byte("/dev/null")) {
				lines[i] = []byte(mark + prefix + string(rest))
			}
		}
		if bytes.HasPrefix(l, []byte("@@")) {
			bare = false
		}
	}
	return bytes.Join(lines, nil)
}
