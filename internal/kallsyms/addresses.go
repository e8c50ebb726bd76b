// SPDX-License-Identifier: Apache-2.0

package kallsyms

import (
	"encoding/binary"
	"fmt"
)

// findAddresses finds the addresses that go with the names. Known layouts:
//
//	before 6.4  addresses (or offsets, relative base), count, names, markers, tokens, index
//	since 6.4   count, names, markers, tokens, index, addresses (or offsets, relative base)
//
// with each table aligned to 8 bytes, since 6.12 to 4. An address is stored as
// itself, or as an offset to the base, or (ABSOLUTE_PERCPU) as an offset whose
// sign tells absolute values from addresses. Which of these it is follows from
// the result: the addresses must ascend, lie where the image is loaded, and put
// _text at its very beginning.
func (tb *tables) findAddresses(lo, hi uint64) ([]uint64, error) {
	if lo == 0 {
		return nil, fmt.Errorf("the image loads nothing in the kernel's address space")
	}
	var cand [][]uint64
	for _, align := range []int{8, 4} {
		// Behind the tokens.
		off := alignUp(tb.tokEnd, align)
		cand = append(cand, tb.relative(off, alignUp(off+4*tb.n, align), lo, hi)...)
		cand = append(cand, tb.absolute(off))
		// Before the count.
		base := tb.cntOff - 8
		off = base - 4*tb.n
		off -= ((off % align) + align) % align
		cand = append(cand, tb.relative(off, base, lo, hi)...)
		cand = append(cand, tb.absolute(tb.cntOff-8*tb.n))
	}
	for _, a := range cand {
		if a != nil && tb.believable(a, lo, hi) {
			return a, nil
		}
	}
	return nil, fmt.Errorf("no list of addresses that ascends and fits the image for its %d names", tb.n)
}

// relative decodes offsets with the base stored at baseOff, in both meanings.
func (tb *tables) relative(off, baseOff int, lo, hi uint64) [][]uint64 {
	if off < 0 || baseOff < 0 || off+4*tb.n > len(tb.sec) || baseOff+8 > len(tb.sec) {
		return nil
	}
	base := binary.LittleEndian.Uint64(tb.sec[baseOff:])
	if base < lo || base >= hi {
		return nil
	}
	plain, signed := make([]uint64, tb.n), make([]uint64, tb.n)
	for i := range tb.n {
		v := binary.LittleEndian.Uint32(tb.sec[off+4*i:])
		plain[i] = base + uint64(v)
		if s := int32(v); s >= 0 {
			signed[i] = uint64(s)
		} else {
			signed[i] = base - 1 - uint64(int64(s))
		}
	}
	return [][]uint64{signed, plain}
}

func (tb *tables) absolute(off int) []uint64 {
	if off < 0 || off+8*tb.n > len(tb.sec) {
		return nil
	}
	out := make([]uint64, tb.n)
	for i := range out {
		out[i] = binary.LittleEndian.Uint64(tb.sec[off+8*i:])
	}
	return out
}

func (tb *tables) believable(a []uint64, lo, hi uint64) bool {
	var inside int
	for i, v := range a {
		if i > 0 && v < a[i-1] {
			return false
		}
		if v >= lo && v <= hi {
			inside++
		}
	}
	// Per-CPU symbols are outside; all others are not.
	if inside < tb.n/2 {
		return false
	}
	o := tb.names
	for i := range tb.n {
		body, next, _ := tb.name(o)
		o = next
		if a[i] == lo && tb.nameIs(body, "_text") {
			return true
		}
		if a[i] > lo {
			break
		}
	}
	return false
}

// nameIs compares a packed name, without its type letter.
func (tb *tables) nameIs(body []byte, name string) bool {
	k := -1
	for _, c := range body {
		for _, ch := range tb.tok[c] {
			if k >= 0 && (k >= len(name) || name[k] != ch) {
				return false
			}
			k++
		}
	}
	return k == len(name)
}
