// SPDX-License-Identifier: Apache-2.0

package objpair

import (
	"bytes"
	"debug/elf"
	"fmt"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/patchgen"
)

// Generate is the differ alone, from the bytes of two objects to those of the
// livepatch object, which are nil if nothing changed. symvers is the content of
// the kernel's Module.symvers. Errors are patchgen's.
func (x *Pair) Generate(oldBytes, newBytes []byte, symvers []byte) (*patchgen.Result, []byte, error) {
	old, err := elfobj.ReadCode(oldBytes)
	if err != nil {
		return nil, nil, fmt.Errorf("reading %s: %w", x.Old, err)
	}
	new, err := elfobj.ReadCode(newBytes)
	if err != nil {
		return nil, nil, fmt.Errorf("reading %s: %w", x.New, err)
	}
	extents, err := patchgen.ReadExtents(oldBytes, x.Source)
	if err != nil {
		return nil, nil, err
	}
	k := &kernel{unit: x.Unit, own: map[string]bool{}, global: map[string]bool{}, symvers: symvers}
	for _, y := range old.Symbols {
		k.own[y.Name] = y.Section != nil
	}
	for _, y := range slices.Concat(old.Symbols, new.Symbols) {
		if y.Bind != elf.STB_LOCAL {
			k.global[y.Name] = true
		}
	}
	res, err := patchgen.Generate(patchgen.Input{
		Unit: x.Unit, Old: old, New: new, Sizes: patchgen.DefaultSizes(), Lines: x.Lines, OldLines: extents,
		LateObjtool: x.LateObjtool, Kernel: k, AliasPrefix: "new_",
	})
	if err != nil || res.Empty() {
		return res, nil, err
	}
	out, err := res.Object.Bytes()
	return res, out, err
}

// kernel is one in which every symbol is there once, and a unit's own are where
// its object has them: what create-diff-object is told too.
type kernel struct {
	unit string
	own  map[string]bool
	// global are the names that other objects know, which are all that can be
	// asked for.
	global  map[string]bool
	symvers []byte            // the content of a Module.symvers
	lines   map[string]string // those of global names; read when first asked for
}

// Exported finds the line of a symbol: checksum, name, owner, kind of export and
// namespace, separated by tabs (Documentation/kbuild/modules.rst, section 6.2).
func (k *kernel) Exported(name string) (owner, namespace string, ok bool) {
	if k.lines == nil {
		k.lines = map[string]string{}
		for l := range bytes.Lines(k.symvers) {
			_, rest, _ := bytes.Cut(l, tab)
			if symbol, rest, ok := bytes.Cut(rest, tab); ok && k.global[string(symbol)] {
				k.lines[string(symbol)] = string(bytes.TrimSuffix(rest, []byte("\n")))
			}
		}
	}
	l, ok := k.lines[name]
	if !ok {
		return "", "", false
	}
	owner, rest, _ := strings.Cut(l, "\t")
	_, namespace, _ = strings.Cut(rest, "\t")
	return strings.ReplaceAll(owner[strings.LastIndexByte(owner, '/')+1:], "-", "_"), namespace, true
}

var tab = []byte("\t")

// Callable says yes: what is sealed is the build's to find out.
func (*kernel) Callable(patchgen.Ref) bool { return true }

// Locate believes the object.
func (k *kernel) Locate(name string, _ bool) (patchgen.Ref, error) {
	if k.own[name] {
		return patchgen.Ref{Object: k.unit, Symbol: name}, nil
	}
	return patchgen.Ref{Object: patchgen.VMLinux, Symbol: name}, nil
}
