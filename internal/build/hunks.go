// SPDX-License-Identifier: Apache-2.0

package build

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

var hunkHeader = regexp.MustCompile(`^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@`)

// checkComplete makes sure that every hunk of a diff was read, and read whole.
// Like patch(1), the parser takes what it does not understand for prose
// between two files: a hunk with a damaged header, or lines that its header
// does not count, would be left out without a word.
func checkComplete(text, preamble string, files []*gitdiff.File) error {
	read := 0
	for _, f := range files {
		read += len(f.TextFragments)
	}
	lines := strings.SplitAfter(text, "\n")
	first := 0
	if strings.HasPrefix(text, preamble) {
		first = strings.Count(preamble, "\n")
	}
	for i := first; i < len(lines); i++ {
		if !strings.HasPrefix(lines[i], "@@") {
			continue
		}
		m := hunkHeader.FindStringSubmatch(lines[i])
		if m == nil {
			return fmt.Errorf("line %d is no readable hunk header", i+1)
		}
		read--
		i = skipHunk(lines, i+1, count(m[1]), count(m[2]))
		if i < len(lines) && leftOver(lines[i]) {
			return fmt.Errorf("line %d belongs to a hunk whose header does not count it", i+1)
		}
		i--
	}
	if read != 0 {
		return errors.New("it has hunks outside of any file")
	}
	return nil
}

// count reads a number of lines; one that is not written is 1.
func count(s string) int {
	if n, err := strconv.Atoi(s); err == nil {
		return n
	}
	return 1
}

// skipHunk gives the index of the first line behind a hunk's body.
func skipHunk(lines []string, i, old, new int) int {
	for ; i < len(lines) && (old > 0 || new > 0); i++ {
		switch {
		case strings.HasPrefix(lines[i], "+"):
			new--
		case strings.HasPrefix(lines[i], "-"):
			old--
		case strings.HasPrefix(lines[i], `\`):
		default:
			old, new = old-1, new-1
		}
	}
	for i < len(lines) && strings.HasPrefix(lines[i], `\`) {
		i++
	}
	return i
}

// leftOver reports a line that looks like one of a hunk. "-- " begins the
// signature that git puts below a patch.
func leftOver(line string) bool {
	if strings.HasPrefix(line, "--- ") || strings.HasPrefix(line, "+++ ") || strings.TrimRight(line, " \r\n") == "--" {
		return false
	}
	return strings.HasPrefix(line, "+") || strings.HasPrefix(line, "-") || strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")
}
