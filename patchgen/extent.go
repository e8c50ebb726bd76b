// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"debug/dwarf"
	"fmt"
	"path"
	"slices"
)

// Extents says where the functions of a source file begin. A function reaches
// to the line before the next one: what stands between belongs to either.
type Extents map[string]extentLines

type extentLines struct{ from, to int }

func (e Extents) extent(name string) (from, to int, ok bool) {
	x, ok := e[name]
	return x.from, x.to, ok
}

// ReadExtents reads the lines of the functions that source itself defines out
// of the DWARF of its object. Functions from headers are not among them.
func ReadExtents(obj []byte, source string) (Extents, error) {
	d, err := readDWARF(obj)
	if err != nil {
		return nil, fmt.Errorf("reading DWARF: %w", err)
	}
	starts := map[string]int{}
	var files []*dwarf.LineFile
	r := readEntries(d, len(obj))
	for {
		e, err := r.Next()
		if err != nil {
			return nil, err
		}
		if e == nil {
			break
		}
		if e.Tag == dwarf.TagCompileUnit {
			lr, err := d.LineReader(e)
			if err != nil || lr == nil {
				return nil, err
			}
			files = lr.Files()
			continue
		}
		if e.Tag == dwarf.TagSubprogram {
			name, _ := e.Val(dwarf.AttrName).(string)
			line, okL := e.Val(dwarf.AttrDeclLine).(int64)
			file, okF := e.Val(dwarf.AttrDeclFile).(int64)
			if name != "" && okL && okF && file >= 0 && file < int64(len(files)) && files[file] != nil && path.Base(files[file].Name) == path.Base(source) {
				starts[name] = int(line)
			}
		}
		r.SkipChildren()
	}
	var all []int
	for _, l := range starts {
		all = append(all, l)
	}
	slices.Sort(all)
	out := Extents{}
	for name, from := range starts {
		to := int(^uint(0) >> 1)
		if i, _ := slices.BinarySearch(all, from+1); i < len(all) {
			to = all[i] - 1
		}
		out[name] = extentLines{from, to}
	}
	return out, nil
}
