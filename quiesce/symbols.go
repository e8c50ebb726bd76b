// SPDX-License-Identifier: Apache-2.0

package quiesce

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/lupatch/lupatch/internal/kallsyms"
	"github.com/lupatch/lupatch/kpatch"
)

// symbols is /proc/kallsyms. Finding some functions in it takes one scan; only
// when places are to be named is a table of all of it made.
type symbols struct {
	text  []byte
	table *kallsyms.Table
}

// readSymbols gives nil where the kernel has none, or hides the addresses.
func readSymbols(k *kpatch.Kernel) (*symbols, error) {
	b, err := os.ReadFile(k.Path("/proc/kallsyms"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the kernel's symbols: %w", err)
	}
	// The first symbols of x86 are per-CPU ones, near 0.
	hidden := true
	for rest := b; len(rest) > 0 && hidden; {
		s, _, _, next := symbolLine(rest)
		hidden, rest = s == 0, next
	}
	if hidden {
		return nil, nil
	}
	return &symbols{text: b}, nil
}

// symbolLine takes a line "ADDRESS TYPE NAME[\t[MODULE]]" apart.
func symbolLine(b []byte) (addr uint64, typ byte, name []byte, next []byte) {
	line, next, _ := bytes.Cut(b, []byte{'\n'})
	i := 0
	for ; i < len(line) && line[i] != ' '; i++ {
		c := line[i]
		switch {
		case c >= '0' && c <= '9':
			addr = addr<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			addr = addr<<4 | uint64(c-'a'+10)
		}
	}
	if i+3 > len(line) {
		return 0, 0, nil, next
	}
	return addr, line[i+1], line[i+3:], next
}

// symbol is one of those looked for.
type symbol struct {
	name, module string
	start, end   uint64 // end is where the next symbol begins
	text         bool
	// shown is what the kernel prints: the first symbol of that address.
	shown string
}

// find gives the symbols of the names, in the order of kallsyms.
func (s *symbols) find(names map[string]bool) []symbol {
	var out []symbol
	for rest := s.text; len(rest) > 0; {
		addr, typ, name, next := symbolLine(rest)
		rest = next
		name, module, _ := bytes.Cut(name, []byte{'\t'})
		if !names[string(name)] {
			continue
		}
		out = append(out, symbol{name: string(name), module: string(bytes.Trim(module, "[]")), start: addr, end: lastEnd(addr), text: kallsyms.Symbol{Type: typ}.IsText()})
	}
	if len(out) == 0 {
		return nil
	}
	for rest := s.text; len(rest) > 0; {
		addr, _, name, next := symbolLine(rest)
		rest = next
		for i := range out {
			o := &out[i]
			if addr > o.start && addr < o.end {
				o.end = addr
			}
			if addr == o.start && o.shown == "" {
				name, _, _ := bytes.Cut(name, []byte{'\t'})
				o.shown = string(name)
			}
		}
	}
	return out
}

// lastEnd bounds a symbol behind which there is none.
func lastEnd(addr uint64) uint64 {
	const longest = 1 << 20 // no function is that long
	return addr + longest
}

// containing is kallsyms.Table.Containing, for display.
func (s *symbols) containing(addr uint64) (sym kallsyms.Symbol, offset uint64, ok bool) {
	if s.table == nil {
		t, err := kallsyms.ReadProc(bytes.NewReader(s.text))
		if err != nil {
			t = kallsyms.NewTable(nil)
		}
		s.table = t
	}
	return s.table.Containing(addr)
}
