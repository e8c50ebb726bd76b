// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// labels are refusals that a reader of the fixes expected before anything was
// built, by fix.
type labels struct {
	fixes []string
	want  map[string]string
}

// readLabels reads lines of fix, refusal and reason.
func readLabels(path string) (*labels, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l := &labels{want: map[string]string{}}
	s := bufio.NewScanner(f)
	for n := 1; s.Scan(); n++ {
		if strings.HasPrefix(s.Text(), "#") || strings.HasPrefix(s.Text(), "patch\t") {
			continue
		}
		c := strings.Split(s.Text(), "\t")
		if len(c) != 3 || l.want[c[0]] != "" {
			return nil, fmt.Errorf("reading %s: line %d is not a fix of its own with a refusal and a reason", path, n)
		}
		l.fixes, l.want[c[0]] = append(l.fixes, c[0]), c[1]
	}
	return l, s.Err()
}

// against tells which of the labels came true.
func (l *labels) against(rows map[string]*row) string {
	agree, compiled := 0, 0
	var other []string
	for _, f := range l.fixes {
		r := rows[f]
		if r == nil || r.outcome == outcomeNotCompiled {
			continue
		}
		compiled++
		if r.outcome == outcomeRefused && r.reason == l.want[f] {
			agree++
			continue
		}
		got := r.outcome
		if r.reason != "" {
			got = "`" + r.reason + "`"
		}
		other = append(other, fmt.Sprintf("- %s: expected `%s`, came out as %s\n", strings.TrimSuffix(f, ".patch"), l.want[f], got))
	}
	return fmt.Sprintf("\nRefusals expected by a reader before the first run: %d fixes that compile; %d came out as expected.\n\n%s", compiled, agree, strings.Join(other, ""))
}
