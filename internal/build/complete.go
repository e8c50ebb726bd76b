// SPDX-License-Identifier: Apache-2.0

package build

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/patchgen"
)

// The binaries that the kernel comes with say once more who calls a function: what
// is not among the callers that were found in the source stands in the way.

// complete holds the callers found, by unit, against the shipped binaries.
func (s *moves) complete(m *move, callers map[string]map[string]bool) error {
	for _, unit := range slices.Sorted(maps.Keys(callers)) {
		var names, others []string
		if mod := s.job.modules[unit]; mod != nil {
			names, _, others = patchgen.Callers(mod.obj, unit, s.job.sizes, m.names)
		} else {
			var err error
			if names, err = s.callersInImage(m); err != nil {
				return err
			}
		}
		for _, n := range names {
			if !callers[unit][n] && !callers[unit][sourceName(n)] {
				others = append(others, n)
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
)

// callersInImage looks through the code of vmlinux for calls and jumps to the
// function. Bytes that look so by chance are one in some ten thousand functions.
func (s *moves) callersInImage(m *move) ([]string, error) {
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
	found := map[string]bool{}
	for i := 0; i+nearLength <= len(code); i++ {
		if code[i] != nearCall && code[i] != nearJump {
			continue
		}
		at := begin[0].Addr + uint64(i)
		if at+nearLength+uint64(int64(int32(binary.LittleEndian.Uint32(code[i+1:])))) != to[0] {
			continue
		}
		name := fmt.Sprintf("the code at %#x", at)
		if y, _, ok := syms.Containing(at); ok {
			name = y.Name
		}
		found[name] = true
	}
	return slices.Sorted(maps.Keys(found)), nil
}
