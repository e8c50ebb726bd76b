// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/patchgen"
)

const (
	// named is how many users a refusal names in its sentence.
	named = 5
	// fewUsers is how many files that seem to use a function are compiled to be
	// sure. That none of more does is not to be expected.
	fewUsers = 12
)

// checkUsers refuses a function that is seen in another way from now on, unless
// all that use it are part of the patch and see it so.
func (j *job) checkUsers(ctx context.Context, r *reshaped) error {
	outside, err := j.usersOutside(ctx, r)
	if err != nil {
		return err
	}
	if r.recalled() {
		stale, err := j.staleUsers(r)
		if err != nil {
			return err
		}
		outside = append(outside, stale...)
	}
	if len(outside) > 0 {
		return r.refusal(outside)
	}
	if r.exported {
		j.review = append(j.review, fmt.Sprintf("%s is exported and %s: all that the kernel comes with and that uses it is part of the patch; see that no module from elsewhere does", r.Name, r.change()))
	}
	return nil
}

// change says what changes.
func (r *reshaped) change() string {
	if r.recalled() {
		return fmt.Sprintf("changes from %s to %s", r.Old, r.New)
	}
	return fmt.Sprintf("its checksum changes from %#08x to %#08x", r.crc[0], r.crc[1])
}

func (r *reshaped) refusal(outside []string) error {
	outside, list := inSentence(outside, 200)
	e := refuse.New(refuse.Signature, r.Name, "it would be called in another way, and not all that use it follow: %s", list)
	if r.crc[0] != r.crc[1] {
		e = refuse.New(refuse.ExportCRC, r.Name, "its checksum would change from %#08x to %#08x, and not all that use it follow: %s", r.crc[0], r.crc[1], list)
	}
	if r.recalled() {
		e.Help = fmt.Sprintf("The running kernel has %s, with the patch it is %s.\n", r.Old, r.New)
	}
	e.Help += fmt.Sprintf("Who uses %s and does not follow:\n  %s\n", r.Name, strings.Join(outside, "\n  "))
	return e
}

// usersOutside lists who uses the function and is not compiled for the patch.
func (j *job) usersOutside(ctx context.Context, r *reshaped) ([]string, error) {
	var sources []string
	units := map[string]bool{}
	for _, u := range j.compiled {
		sources = append(sources, u.tu.Source)
		units[u.tu.Unit] = true
	}
	var out, search, foreign []string
	if r.recalled() {
		search = append(search, r.unit.tu.Unit)
		if tellsBPF(r.unit.old, r.names) {
			out = append(out, "BPF programs, which may call it")
		}
	}
	for _, m := range r.importers {
		if units[m] {
			search = append(search, m)
		} else {
			foreign = append(foreign, m)
		}
	}
	if len(foreign) <= named { // their files are worth finding
		search = append(search, foreign...)
	}
	search, err := j.incomplete(ctx, search, sources)
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	if len(search) > 0 {
		tus, err := j.tree.Users(ctx, search, r.names, sources)
		if err != nil {
			return nil, err
		}
		if tus, err = j.confirmed(ctx, tus, r.names); err != nil {
			return nil, err
		}
		for _, u := range tus {
			found[u.Unit] = true
			out = append(out, placeOf(u))
		}
	}
	for _, m := range foreign {
		if !found[m] {
			out = append(out, "module "+m)
		}
	}
	return out, nil
}

// placeOf is how a user sees a file.
func placeOf(u *kbuild.TU) string {
	if u.Unit == "" || u.Unit == patchgen.VMLinux {
		return u.Source
	}
	return fmt.Sprintf("%s (%s)", u.Source, u.Unit)
}

// incomplete leaves out modules of which all files are compiled anyway.
func (j *job) incomplete(ctx context.Context, units, sources []string) ([]string, error) {
	var out []string
	for _, u := range units {
		if u == patchgen.VMLinux {
			out = append(out, u)
			continue
		}
		parts, err := j.tree.Parts(ctx, u)
		if err != nil {
			return nil, err
		}
		all := len(parts) > 0 && !slices.ContainsFunc(parts, func(p string) bool { return !slices.Contains(sources, p) })
		if !all && !slices.Contains(out, u) {
			out = append(out, u)
		}
	}
	return out, nil
}

// confirmed leaves out files in whose objects nothing is left of a use.
func (j *job) confirmed(ctx context.Context, tus []*kbuild.TU, names []string) ([]*kbuild.TU, error) {
	if len(tus) > fewUsers {
		return tus, nil
	}
	var out, c []*kbuild.TU
	var jobs []kbuild.Job
	for _, u := range tus {
		if path.Ext(u.Source) != ".c" {
			out = append(out, u)
			continue
		}
		c = append(c, u)
		jobs = append(jobs, kbuild.Job{TU: u, Flavor: kbuild.Shipped, ExtraFlags: j.opt.ExtraFlags})
	}
	objs, err := j.tree.CompileAll(ctx, jobs)
	if err != nil {
		return nil, err
	}
	for i, u := range c {
		f, err := elfobj.ReadFile(objs[i].Path)
		if err != nil {
			return nil, err
		}
		if refersTo(f, names, u.Unit == patchgen.VMLinux) || tellsBPF(f, names) {
			out = append(out, u)
		}
	}
	return out, nil
}

// refersTo says whether code or data of an object refers to one of the symbols of
// another; without what is there for the boot only, if that is over for good.
func refersTo(f *elfobj.File, names []string, booted bool) bool {
	for _, s := range f.Sections {
		if !s.Alloc() || strings.HasPrefix(s.Name, ".discard") || booted && strings.HasPrefix(s.Name, ".init.") {
			continue
		}
		if slices.ContainsFunc(s.Relocs, func(r elfobj.Reloc) bool { return r.Sym.Undefined() && slices.Contains(names, r.Sym.Name) }) {
			return true
		}
	}
	return false
}

// tellsBPF says whether an object makes one of the functions known to BPF.
func tellsBPF(f *elfobj.File, names []string) bool {
	return slices.ContainsFunc(f.Symbols, func(y *elfobj.Symbol) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(y.Name, kbuild.BTFPrefix+n+"__") })
	})
}

// staleUsers lists files of the patch that go on declaring the function as it
// was: nothing but a header that both include would have told the compiler.
func (j *job) staleUsers(r *reshaped) (out []string, err error) {
	for _, u := range j.compiled {
		if u.tu.Source == r.unit.tu.Source || !r.exported && u.tu.Unit != r.unit.tu.Unit {
			continue
		}
		if u.prototypes == nil {
			if u.prototypes, err = prototypesOf(u.newPath); err != nil {
				return nil, err
			}
		}
		for _, n := range r.names {
			if slices.ContainsFunc(u.prototypes.Declared[n], func(as string) bool { return loose(as) != loose(r.New) }) {
				out = append(out, placeOf(u.tu)+", which declares it otherwise")
			}
		}
	}
	return out, nil
}

// numberLike are types that the compiler takes for each other, so that function
// and declaration need not name the same one.
var numberLike = regexp.MustCompile(`enum (of \d+ bytes|\w+)|unsigned int`)

func loose(prototype string) string { return numberLike.ReplaceAllString(prototype, "int") }

// checkLateInit refuses what a module would do when it is loaded under the update:
// its init code is never replaced, and would call changed functions as before.
func (j *job) checkLateInit(units []*unit) error {
	for _, u := range units {
		if u.tu.Unit == patchgen.VMLinux {
			continue // it has run for good
		}
		for _, fn := range u.result.AlreadyRan {
			for ref := range patchgen.References(u.old, fn, j.sizes) {
				name, _, _ := strings.Cut(ref, ".") // of a clone
				if u.recalled[name] || j.recalled[name] {
					return refuse.New(refuse.Signature, name, "%s of %s calls it when the module is loaded, and that code is not replaced: it would go on calling it as before", fn, u.tu.Unit)
				}
			}
			if slots := slices.Sorted(maps.Keys(j.slots)); len(slots) > 0 {
				return refuse.New(refuse.Signature, slots[0], "%s of %s runs when the module is loaded and is not replaced: what it calls or puts there would be as before", fn, u.tu.Unit)
			}
		}
	}
	return nil
}
