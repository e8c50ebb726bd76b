// SPDX-License-Identifier: Apache-2.0

package runpre

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"

	"github.com/lupatch/lupatch/internal/elfobj"
)

// mutate writes into a file what edits say: four bytes of place, one of value.
// Most places of an object are code; those that matter to a reader are tables,
// which random bytes rarely hit.
func mutate(b, edits []byte) []byte {
	b = bytes.Clone(b)
	for ; len(edits) >= 5 && len(b) > 0; edits = edits[5:] {
		b[uint64(binary.LittleEndian.Uint32(edits))%uint64(len(b))] = edits[4]
	}
	return b
}

// FuzzModule: a damaged module gives an error or a mismatch, never a panic.
func FuzzModule(f *testing.F) {
	a := read(f, object(f, "a", unitA))
	ko, err := os.ReadFile(ld(f, "-r", object(f, "a", unitA), object(f, "b", unitB), object(f, "i", initUnit)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{}, false)
	f.Add([]byte{1, 0, 0, 0, 1, 2, 3, 0, 0, 255}, true)
	f.Fuzz(func(t *testing.T, edits []byte, whole bool) {
		damaged := mutate(ko, edits)
		if whole {
			damaged = edits
		}
		m, err := elfobj.Read(damaged)
		if err != nil {
			return
		}
		r, err := Module("m", a, m)
		if err != nil {
			return
		}
		for _, name := range []string{"helper", "state", "alpha", "outside"} {
			for _, local := range []bool{true, false} {
				if found, err := r.LocateModule(m, name, local); err == nil && found.Name != name {
					t.Fatalf("%s found as %+v", name, found)
				}
			}
		}
		if len(r.Mismatches) == 0 && r.Verified != r.Functions {
			t.Fatalf("%d of %d functions verified without a mismatch", r.Verified, r.Functions)
		}
		// The other way round: what was compiled is damaged.
		if _, err := Module("m", m, a); err != nil {
			return
		}
		Compiler(m)
	})
}

// FuzzKernel: the same for objects held against an image.
func FuzzKernel(f *testing.F) {
	path := object(f, "a", unitA)
	im, syms := linkImage(f, object(f, "core", core), path, object(f, "b", unitB))
	obj, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
	f.Add([]byte{1, 0, 0, 0, 1, 2, 3, 0, 0, 255})
	f.Fuzz(func(t *testing.T, edits []byte) {
		o, err := elfobj.Read(mutate(obj, edits))
		if err != nil {
			return
		}
		r, err := Kernel(o, im, syms)
		if err != nil {
			return
		}
		for _, y := range o.Symbols {
			if found, err := r.LocateKernel(syms, y.Name, true); err == nil && found.Name != y.Name {
				t.Fatalf("%s found as %+v", y.Name, found)
			}
		}
	})
}
