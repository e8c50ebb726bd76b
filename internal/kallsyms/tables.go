// SPDX-License-Identifier: Apache-2.0

package kallsyms

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
)

// Of the format that scripts/kallsyms.c writes.
const (
	tokens      = 256
	markerEvery = 256 // names between two markers
	maxName     = 512 // KSYM_NAME_LEN since 6.1
	bigSymbol   = 0x80
	// minSymbols and maxSymbols bound what is tried as a count: the smallest
	// kernels have a few thousand symbols, the largest some hundred thousand.
	minSymbols = 500
	maxSymbols = 4 << 20
	digits     = "0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00"
)

// tables is one set of kallsyms tables as found in a section.
type tables struct {
	sec    []byte
	tok    [tokens][]byte
	tokOff int // start of the token table
	tokEnd int // end of the token index
	cntOff int // where the number of symbols is stored
	names  int // start of the names
	n      int
}

// decode looks through the sections that can hold the tables. Every layout is
// tried; exactly the one that passes every check is taken.
func (im *Image) decode() (*Table, error) {
	var last error
	for _, s := range im.ELF.Sections {
		if s.Type != elf.SHT_PROGBITS || s.Flags&elf.SHF_ALLOC == 0 || s.Flags&elf.SHF_EXECINSTR != 0 {
			continue
		}
		b, ok := im.section(s)
		if !ok {
			continue
		}
		for _, tb := range findTokens(b) {
			syms, err := im.decodeAt(tb)
			if err == nil {
				return NewTable(syms), nil
			}
			last = fmt.Errorf("section %s: %w", s.Name, err)
		}
	}
	if last != nil {
		return nil, fmt.Errorf("reading kallsyms of vmlinux: %w: %w", ErrNoTables, last)
	}
	return nil, fmt.Errorf("reading kallsyms of vmlinux: %w: no token table", ErrNoTables)
}

func (im *Image) decodeAt(tb *tables) ([]Symbol, error) {
	if err := tb.findNames(); err != nil {
		return nil, err
	}
	addrs, err := tb.findAddresses(im.kernelRange())
	if err != nil {
		return nil, err
	}
	return tb.symbols(addrs), nil
}

// kernelRange is the lowest and highest address that the image loads in the
// kernel's half of the address space.
func (im *Image) kernelRange() (lo, hi uint64) {
	for _, p := range im.ELF.Progs {
		if p.Type != elf.PT_LOAD || p.Vaddr>>63 == 0 {
			continue
		}
		if lo == 0 || p.Vaddr < lo {
			lo = p.Vaddr
		}
		if end := p.Vaddr + p.Memsz; end > hi {
			hi = end
		}
	}
	return lo, hi
}

// findTokens finds every token table that is followed by its index. The digits
// are always tokens of their own, which makes the table easy to find.
func findTokens(sec []byte) []*tables {
	var out []*tables
	for from := 0; ; {
		i := bytes.Index(sec[from:], []byte(digits))
		if i < 0 {
			return out
		}
		at := from + i
		from = at + 1
		if tb, ok := tokensAround(sec, at); ok {
			out = append(out, tb)
		}
	}
}

// tokensAround checks that the digits at offset at are numbers '0' to '9' of a
// table of 256 tokens, and that the 256 offsets of these tokens follow it.
func tokensAround(sec []byte, at int) (*tables, bool) {
	start := at
	for range int('0') {
		if start == 0 {
			return nil, false
		}
		p := bytes.LastIndexByte(sec[max(0, start-1-maxName):start-1], 0)
		if p < 0 {
			return nil, false
		}
		start = max(0, start-1-maxName) + p + 1
	}
	tb := &tables{sec: sec, tokOff: start}
	var want [2 * tokens]byte
	o := start
	for i := range tokens {
		z := bytes.IndexByte(sec[o:min(len(sec), o+maxName)], 0)
		if z < 0 || o-start > 0xffff {
			return nil, false
		}
		tb.tok[i] = sec[o : o+z]
		binary.LittleEndian.PutUint16(want[2*i:], uint16(o-start))
		o += z + 1
	}
	// The index is aligned to 8 bytes, since 6.12 to 4.
	for _, align := range []int{8, 4, 2} {
		ix := alignUp(o, align)
		if ix+len(want) <= len(sec) && bytes.Equal(sec[ix:ix+len(want)], want[:]) {
			tb.tokEnd = ix + len(want)
			return tb, true
		}
	}
	return nil, false
}

// findNames finds the count, the names and the markers before the token table.
// Only a count whose names decode one after the other and end where markers
// confirm the place of every 256th is taken.
func (tb *tables) findNames() error {
	for at := 0; at+8 < tb.tokOff; at += 4 {
		n := int(binary.LittleEndian.Uint32(tb.sec[at:]))
		if n < minSymbols || n > maxSymbols || at+4+2*n > tb.tokOff {
			continue
		}
		// The names follow the count at once or after padding to 8 bytes.
		for _, names := range []int{at + 4, at + 8} {
			if names == at+8 && (at%8 != 0 || binary.LittleEndian.Uint32(tb.sec[at+4:]) != 0) {
				continue
			}
			if tb.checkNames(names, n) {
				tb.cntOff, tb.names, tb.n = at, names, n
				return nil
			}
		}
	}
	return fmt.Errorf("no list of names that agrees with its markers before the tokens at %#x", tb.tokOff)
}

func (tb *tables) checkNames(names, n int) bool {
	marks := make([]uint32, 0, min(n/markerEvery+1, 1<<14))
	o := names
	for i := range n {
		if i%markerEvery == 0 {
			marks = append(marks, uint32(o-names))
		}
		body, next, ok := tb.name(o)
		if !ok || !tb.plausible(body) {
			return false
		}
		o = next
	}
	for _, align := range []int{8, 4} {
		m := alignUp(o, align)
		if m+4*len(marks) > tb.tokOff {
			continue
		}
		same := true
		for i, v := range marks {
			if binary.LittleEndian.Uint32(tb.sec[m+4*i:]) != v {
				same = false
				break
			}
		}
		if same {
			return true
		}
	}
	return false
}

// name gives the packed name at o and where the next begins. Lengths of 128
// and more take two bytes since 6.1 ("big symbols").
func (tb *tables) name(o int) (body []byte, next int, ok bool) {
	if o >= tb.tokOff {
		return nil, 0, false
	}
	n := int(tb.sec[o])
	o++
	if n&bigSymbol != 0 {
		if o >= tb.tokOff {
			return nil, 0, false
		}
		n = n&^bigSymbol | int(tb.sec[o])<<7
		o++
	}
	if n == 0 || o+n > tb.tokOff {
		return nil, 0, false
	}
	return tb.sec[o : o+n], o + n, true
}

// plausible says whether a packed name begins with a type letter of nm and
// holds printable text of a length the kernel allows.
func (tb *tables) plausible(body []byte) bool {
	n := 0
	for i, c := range body {
		t := tb.tok[c]
		if len(t) == 0 {
			return false
		}
		if i == 0 && !isType(t[0]) {
			return false
		}
		for _, ch := range t {
			if ch <= ' ' || ch >= 0x7f {
				return false
			}
		}
		n += len(t)
	}
	return n >= 2 && n <= maxName
}

func isType(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '?' || c == '-'
}

// symbols joins the checked names with the addresses.
func (tb *tables) symbols(addrs []uint64) []Symbol {
	// One string for all names: half the work of one allocation each.
	var text bytes.Buffer
	type span struct{ from, to int }
	spans := make([]span, tb.n)
	types := make([]byte, tb.n)
	o := tb.names
	for i := range tb.n {
		body, next, _ := tb.name(o)
		from := text.Len()
		for _, c := range body {
			text.Write(tb.tok[c])
		}
		types[i] = text.Bytes()[from]
		spans[i] = span{from + 1, text.Len()}
		o = next
	}
	all := text.String()
	out := make([]Symbol, tb.n)
	for i := range out {
		out[i] = Symbol{Addr: addrs[i], Type: types[i], Name: all[spans[i].from:spans[i].to]}
	}
	return out
}

func alignUp(v, a int) int { return (v + a - 1) / a * a }
