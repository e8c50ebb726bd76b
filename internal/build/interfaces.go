// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"debug/elf"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/patchgen"
)

// All that calls a function has to agree with it on what it takes and gives. A
// livepatch switches each task as a whole, whatever units it is in, so that a
// function may change its prototype if all that use it are part of the update.

// reshaped is a function that others see in another way from now on.
type reshaped struct {
	unit *unit
	// PrototypeChange has the two prototypes. They are alike if only the checksum
	// of an export differs.
	patchgen.PrototypeChange
	exported bool
	// crc are the checksums of the export, if they differ.
	crc [2]uint32
	// names are the function's, aliases included.
	names []string
	// importers are the modules that use the export.
	importers []string
}

// recalled says that calls look different from now on.
func (r *reshaped) recalled() bool { return r.Old != r.New }

// checkInterfaces refuses changed prototypes and exports of which not all users
// are in the patch.
func (j *job) checkInterfaces(ctx context.Context, units []*unit) error {
	j.recalled, j.slots = map[string]bool{}, map[string]bool{}
	var outward []*reshaped
	for _, u := range units {
		found, err := j.reshapedIn(ctx, u)
		if err != nil {
			return err
		}
		outward = append(outward, found...)
	}
	// What modules outside the patch use is refused without a look at files.
	var within []*reshaped
	for _, r := range outward {
		if !j.importedOutside(r) {
			within = append(within, r)
		} else if err := j.checkUsers(ctx, r); err != nil {
			return err
		}
	}
	for _, r := range within {
		if err := j.checkUsers(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

func (j *job) importedOutside(r *reshaped) bool {
	return slices.ContainsFunc(r.importers, func(m string) bool {
		return !slices.ContainsFunc(j.compiled, func(u *unit) bool { return u.tu.Unit == m })
	})
}

// reshapedIn compares the two versions of a unit. What only the unit itself
// knows is kept for checkLateInit.
func (j *job) reshapedIn(ctx context.Context, u *unit) ([]*reshaped, error) {
	old, err := prototypesOf(u.oldPath)
	if err != nil {
		return nil, err
	}
	if u.prototypes, err = prototypesOf(u.newPath); err != nil {
		return nil, err
	}
	functions, slots := patchgen.ChangedPrototypes(old, u.prototypes)
	j.noteSlots(u, slots)
	crcs, err := j.changedCRCs(ctx, u)
	if err != nil {
		return nil, err
	}
	exports := exportsOf(u.old)
	found := map[string]*reshaped{}
	u.recalled = map[string]bool{}
	for _, f := range functions {
		u.recalled[f.Name] = true
		names := globalNames(u.old, f.Name)
		for _, n := range names {
			j.recalled[n] = true
		}
		if len(names) > 0 {
			found[f.Name] = &reshaped{unit: u, PrototypeChange: f, names: names,
				exported: slices.ContainsFunc(names, func(n string) bool { return exports[n] })}
		}
	}
	var same []string
	for _, name := range slices.Sorted(maps.Keys(crcs)) {
		if found[name] == nil && !j.headers {
			same = append(same, name)
			continue
		}
		if found[name] == nil {
			found[name] = &reshaped{unit: u, PrototypeChange: patchgen.PrototypeChange{Name: name}, names: []string{name}, exported: true}
		}
		found[name].crc = crcs[name]
	}
	if len(same) > 0 {
		// All that others know of them stands in headers, and those stay. A file
		// that includes one more of them knows more of the types that its exports
		// name, which changes checksums.
		const show = 3
		list := strings.Join(same[:min(len(same), show)], ", ")
		if more := len(same) - show; more > 0 {
			list += fmt.Sprintf(" and %d more", more)
		}
		j.notes = append(j.notes, fmt.Sprintf("%s: the checksums of its exports would be others (%s), since it includes more or less than before; what they take and give stays, and so do the running kernel's checksums", u.tu.Source, list))
	}
	var out []*reshaped
	for _, name := range slices.Sorted(maps.Keys(found)) {
		r := found[name]
		if r.exported {
			if r.importers, err = j.tree.Importers(ctx, r.names...); err != nil {
				return nil, err
			}
		}
		out = append(out, r)
	}
	return out, nil
}

func prototypesOf(path string) (*patchgen.Prototypes, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return patchgen.ReadPrototypes(b)
}

// changedCRCs compares the checksums of what a unit exports.
func (j *job) changedCRCs(ctx context.Context, u *unit) (map[string][2]uint32, error) {
	out := map[string][2]uint32{}
	if len(exportsOf(u.old)) == 0 {
		return out, nil
	}
	before, err := j.tree.ExportCRC(ctx, u.tu, nil)
	if err != nil {
		return nil, err
	}
	after, err := j.tree.ExportCRC(ctx, u.tu, j.overlay)
	if err != nil {
		return nil, err
	}
	for name, was := range before {
		if now, ok := after[name]; ok && now != was {
			out[name] = [2]uint32{was, now}
		}
	}
	return out, nil
}

// exportMarks begin the symbols by which an object exports another: since 6.4
// (ddb5cdbafaaa, "kbuild: generate KSYMTAB entries by modpost") the second.
var exportMarks = []string{"__ksymtab_", "__export_symbol_"}

// exportsOf lists what an object exports.
func exportsOf(f *elfobj.File) map[string]bool {
	out := map[string]bool{}
	for _, y := range f.Symbols {
		for _, mark := range exportMarks {
			if name, ok := strings.CutPrefix(y.Name, mark); ok && y.Section != nil {
				out[name] = true
			}
		}
	}
	return out
}

// globalNames are the names under which other files can refer to a function;
// none if it is static.
func globalNames(f *elfobj.File, name string) (out []string) {
	i := slices.IndexFunc(f.Symbols, func(y *elfobj.Symbol) bool { return y.Name == name && y.Section != nil })
	if i < 0 {
		return nil
	}
	for _, y := range f.Symbols {
		if y.Section == f.Symbols[i].Section && y.Value == f.Symbols[i].Value && y.Bind != elf.STB_LOCAL && !y.IsSection() {
			out = append(out, y.Name)
		}
	}
	return out
}

// noteSlots tells of pointers to functions that are called in another way. The
// layout of what holds them stays, and all files that use them see a changed text
// and are part of the patch; who else does, no build can know.
func (j *job) noteSlots(u *unit, slots []patchgen.PrototypeChange) {
	for _, s := range slots {
		if !j.slots[s.Name] {
			j.slots[s.Name] = true
			j.review = append(j.review, fmt.Sprintf("%s: what %s points to changes from %s to %s: see that each function put there is part of the patch", u.tu.Source, s.Name, s.Old, s.New))
		}
	}
}
