// SPDX-License-Identifier: Apache-2.0

package disasm

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func lines(s string) (out []line) {
	for _, l := range strings.Fields(s) {
		out = append(out, line{l, l})
	}
	return out
}

func TestAlign(t *testing.T) {
	got := align(lines("a b c d"), lines("a x c d e"))
	want := []Line{{"a", "a", true}, {Old: "b"}, {New: "x"}, {"c", "c", true}, {"d", "d", true}, {New: "e"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got := align(nil, lines("a")); len(got) != 1 || got[0].Same {
		t.Errorf("a new function: %v", got)
	}
}

func TestText(t *testing.T) {
	// push %rbp; call with a relocation; je over the next byte; an undecodable
	// byte; ret
	c := code{bytes: []byte{0x55, 0xe8, 0, 0, 0, 0, 0x74, 1, 0x06, 0xc3}, notes: map[uint64]string{2: "callee"}}
	var got, keys []string
	for _, l := range c.text() {
		got, keys = append(got, l.text), append(keys, l.key)
	}
	if d := cmp.Diff([]string{"push %rbp", "callq callee", "je .+0x9", ".byte 0x06", "retq"}, got); d != "" {
		t.Error(d)
	}
	if keys[2] != "je ." {
		t.Errorf("the key of a branch names its target: %q", keys[2])
	}
}
