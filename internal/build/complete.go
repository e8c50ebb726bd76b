// SPDX-License-Identifier: Apache-2.0

package build

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/patchgen"
)

// The binaries that the kernel comes with say once more who calls a function: what
// is not among the callers that were found in the source stands in the way.

// complete holds the callers found, by unit, against the shipped binaries.
func (s *moves) complete(m *move, callers map[string]map[string]bool) error {
	for _, unit := range slices.Sorted(maps.Keys(callers)) {
		var names [][]string
		var others []string
		if mod := s.job.modules[unit]; mod != nil {
			var found []string
			found, _, others = patchgen.Callers(mod.obj, unit, s.job.sizes, m.names)
			for _, n := range found {
				names = append(names, []string{n})
			}
		} else {
			var err error
			if names, err = s.callersInImage(m); err != nil {
				return err
			}
		}
		for _, of := range names {
			if !slices.ContainsFunc(of, func(n string) bool { return callers[unit][n] || callers[unit][strings.TrimSuffix(n, ".cold")] }) {
				others = append(others, of[0])
			}
		}
		if len(others) > 0 {
			return m.refuse(others, fmt.Sprintf("of the %s that the kernel comes with, found in none of its files", unit))
		}
	}
	return nil
}

const (
	nearCall, nearJump = 0xe8, 0xe9 // opcodes before a distance of 32 bits
	nearLength         = 5
	// A conditional jump has two bytes before the distance: this, and 0x8?.
	twoByte = 0x0f
)

// callersInImage looks through the code of vmlinux for calls and jumps to the
// function. Bytes that look so by chance are one in some ten thousand functions. It
// gives all names of each caller.
func (s *moves) callersInImage(m *move) ([][]string, error) {
	if m.unit.tu.Unit != patchgen.VMLinux {
		return nil, nil // the kernel itself cannot refer to a module
	}
	syms := s.job.syms
	var to []uint64
	for _, y := range syms.Lookup(m.names[0]) {
		if y.Type == 'T' {
			to = append(to, y.Addr)
		}
	}
	begin, end := syms.Lookup("_stext"), syms.Lookup("_etext")
	if len(to) != 1 || len(begin) != 1 || len(end) != 1 || end[0].Addr < begin[0].Addr {
		return nil, refuse.New(refuse.AmbiguousSymbol, m.names[0], "the symbols of the kernel image do not say which function it is")
	}
	code, err := s.job.image.ReadAt(begin[0].Addr, int(end[0].Addr-begin[0].Addr))
	if err != nil {
		return nil, fmt.Errorf("looking for callers of %s in the kernel image: %w", m.names[0], err)
	}
	found := map[uint64][]string{}
	for i := 0; i+nearLength <= len(code); i++ {
		if conditional := i > 0 && code[i-1] == twoByte && code[i]&0xf0 == 0x80; code[i] != nearCall && code[i] != nearJump && !conditional {
			continue
		}
		at := begin[0].Addr + uint64(i)
		if at+nearLength+uint64(int64(int32(binary.LittleEndian.Uint32(code[i+1:])))) != to[0] {
			continue
		}
		y, _, ok := syms.Containing(at)
		if !ok {
			found[at] = []string{fmt.Sprintf("the code at %#x", at)}
			continue
		}
		found[y.Addr] = nil
		for _, alias := range syms.At(y.Addr) {
			found[y.Addr] = append(found[y.Addr], alias.Name)
		}
	}
	var out [][]string
	for _, at := range slices.Sorted(maps.Keys(found)) {
		out = append(out, found[at])
	}
	return out, nil
}
