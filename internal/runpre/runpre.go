// SPDX-License-Identifier: Apache-2.0

// Package runpre compares what a source, a configuration and a compiler
// produce with the binary that a distribution ships, function by function and
// modulo relocations (run-pre matching, after Ksplice, section 4.2). A wrong
// compiler or source is found here and not by a crash. The comparison also
// places every symbol of a translation unit, which tells namesakes apart.
package runpre

import (
	"bytes"
	"debug/elf"
	"fmt"
	"strings"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/refuse"
)

// Mismatch is a function that differs from the shipped one.
type Mismatch struct {
	Function string
	// Offset of the first difference in bytes from the function's start.
	Offset uint64
	// What differs, in words.
	What string
}

// Result is a translation unit held against the shipped binary.
type Result struct {
	// Unit is "vmlinux" or the module's name.
	Unit string
	// Functions is the number of functions of the unit that the binary has.
	Functions int
	// Verified is how many of them are identical.
	Verified int
	// Overridden lists weak functions that another unit replaces.
	Overridden []string
	Mismatches []Mismatch

	places map[string]place
	shared map[string]bool // names that several symbols of the unit have
	extern map[string]uint64
}

// place is where the shipped binary has a symbol: an address in vmlinux, an
// offset in a section of a module.
type place struct {
	section string
	addr    uint64
}

// Err is nil if everything matched, else a refusal that names the first
// differing functions and the likely cause. ours and theirs are the compilers
// of the object and of the binary; an empty string is not known.
func (r *Result) Err(ours, theirs string) error {
	if len(r.Mismatches) == 0 {
		if r.Functions == 0 && len(r.Overridden) == 0 {
			return nil // a unit without code
		}
		if r.Verified > 0 || len(r.Overridden) > 0 {
			return nil
		}
	}
	m := r.Mismatches[0]
	e := refuse.New(refuse.RunPreMismatch, fmt.Sprintf("%s+0x%x", m.Function, m.Offset),
		"%s (%d of %d functions of %s differ from the shipped binary); %s", m.What, len(r.Mismatches), r.Functions, r.Unit, r.cause(ours, theirs))
	return e
}

// Mismatch is a refusal if the named function differs from the shipped one.
func (r *Result) Mismatch(name string) error {
	for _, m := range r.Mismatches {
		if m.Function == name {
			return refuse.New(refuse.RunPreMismatch, fmt.Sprintf("%s+0x%x", m.Function, m.Offset), "%s", m.What)
		}
	}
	return nil
}

func (r *Result) cause(ours, theirs string) string {
	switch {
	case ours != "" && theirs != "" && ours != theirs:
		return fmt.Sprintf("likely cause: the compiler, which is %q where the kernel was built with %q", ours, theirs)
	case 2*len(r.Mismatches) > r.Functions:
		return "likely cause: compiler options or configuration, since most functions differ"
	}
	return "likely cause: another source version or configuration symbol, since only some functions differ"
}

// Compiler reads the compiler's identification out of an object's .comment.
func Compiler(f *elfobj.File) string {
	s := f.Section(".comment")
	if s == nil {
		return ""
	}
	text := string(bytes.TrimLeft(s.Data, "\x00"))
	if i := bytes.IndexByte([]byte(text), 0); i >= 0 {
		text = text[:i]
	}
	return text
}

// prefixed begins the names that objtool gives to the room before functions
// (--prefix, since 6.2).
const prefixed = "__pfx_"

// functions lists the functions of an object in file order.
func functions(f *elfobj.File) (out []*elfobj.Symbol) {
	for _, y := range f.Symbols {
		if y.Type == elf.STT_FUNC && y.Section != nil && y.Section.Alloc() && y.Size > 0 && !strings.HasPrefix(y.Name, prefixed) {
			out = append(out, y)
		}
	}
	return out
}

// sound makes sure that the functions of an object have code to compare.
func sound(f *elfobj.File) error {
	for _, y := range functions(f) {
		if y.Value+y.Size > uint64(len(y.Section.Data)) {
			return fmt.Errorf("function %s of the object has no code", y.Name)
		}
	}
	return nil
}

// code is a function's bytes with the relocated fields zeroed.
func code(sec *elfobj.Section, off, size uint64) []byte {
	b := bytes.Clone(sec.Data[off : off+size])
	for _, r := range sec.RelocsIn(off, off+size) {
		at := r.Off - off
		clear(b[at:min(at+elfobj.Width(r.Type), size)])
	}
	return b
}

// firstDiff is the offset of the first difference, or -1.
func firstDiff(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	if len(a) != len(b) {
		return min(len(a), len(b))
	}
	return -1
}

// named reports symbols that can be found by name in the binary.
func named(y *elfobj.Symbol) bool {
	return y.Name != "" && y.Section != nil && (y.Type == elf.STT_FUNC || y.Type == elf.STT_OBJECT || y.Type == elf.STT_NOTYPE && y.Bind != elf.STB_LOCAL)
}

// ambiguousNames lists names that more than one symbol of the unit has.
func ambiguousNames(f *elfobj.File) map[string]bool {
	seen, twice := map[string]bool{}, map[string]bool{}
	for _, y := range f.Symbols {
		if named(y) {
			twice[y.Name] = seen[y.Name]
			seen[y.Name] = true
		}
	}
	return twice
}

// majority returns the key with the most votes and their number; only is
// false if another key has as many.
func majority(votes map[uint64]int) (best uint64, n int, only bool) {
	for k, v := range votes {
		switch {
		case v > n:
			best, n, only = k, v, true
		case v == n:
			only = false
		}
	}
	return best, n, only
}
