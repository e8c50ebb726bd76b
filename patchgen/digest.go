// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"hash/fnv"
	"slices"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/refuse"
)

// Range is a stretch of a function, in bytes from its start.
type Range struct{ From, To uint64 }

// Digest identifies the code of a function as it stands in memory.
type Digest struct {
	Size uint64
	// Sum is the FNV-1a hash, 64 bits, of the bytes outside of Mask.
	Sum uint64
	// Mask lists what loader and kernel write to: relocated fields, ftrace
	// sites, alternatives, static calls and the like. Sorted, disjoint.
	Mask []Range
}

// Digests computes the digests of the named functions of an object compiled
// with unaltered flags, which is byte for byte the shipped code.
func Digests(f *elfobj.File, sizes Sizes, names []string) (map[string]Digest, error) {
	sp := append(specials(sizes), runtimeSpecials(f)...)
	o := view(f, sp)
	wanted, byName := map[*item]bool{}, map[string]*item{}
	for _, y := range f.Symbols {
		// Any of a function's names will do.
		if it := o.bySym[y]; it != nil && it.kind == function && slices.Contains(names, y.Name) {
			wanted[it], byName[y.Name] = true, it
		}
	}
	masks := map[*item][]Range{}
	es, err := entries(o, sp, func(it *item) bool { return wanted[it] })
	if err != nil {
		return nil, err
	}
	for _, e := range es {
		if n := rewritten(e.special.name, e.bytes(), e.item.code(), e.at); n > 0 {
			masks[e.item] = append(masks[e.item], Range{e.at, min(e.at+n, e.item.size)})
		}
	}
	out := map[string]Digest{}
	for it := range wanted {
		for _, r := range it.relocs() {
			from := r.Off - it.off
			masks[it] = append(masks[it], Range{from, min(from+elfobj.Width(r.Type), it.size)})
		}
		masks[it] = join(masks[it])
	}
	for _, n := range names {
		it, ok := byName[n]
		if ok {
			out[n] = digest(it.code(), masks[it])
		} else {
			return nil, refuse.New(refuse.UnresolvedSymbol, n, "the unit compiled with the kernel's own flags has no function of this name")
		}
	}
	return out, nil
}

func digest(code []byte, mask []Range) Digest {
	h := fnv.New64a()
	at := uint64(0)
	for _, m := range mask {
		h.Write(code[at:m.From])
		at = m.To
	}
	h.Write(code[at:])
	return Digest{Size: uint64(len(code)), Sum: h.Sum64(), Mask: mask}
}

// join sorts ranges and unites those that touch.
func join(rs []Range) []Range {
	slices.SortFunc(rs, func(a, b Range) int { return int(a.From) - int(b.From) })
	var out []Range
	for _, r := range rs {
		if n := len(out); n > 0 && r.From <= out[n-1].To {
			out[n-1].To = max(out[n-1].To, r.To)
			continue
		}
		out = append(out, r)
	}
	return out
}
