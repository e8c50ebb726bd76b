// SPDX-License-Identifier: Apache-2.0

package build

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/patchgen"
)

// link puts the objects of all units into one module, by the kernel's own
// build, and makes a livepatch of it.
func (j *job) link(ctx context.Context, units []*unit) ([]byte, *manifest.Manifest, error) {
	man, tab, err := j.describe(units)
	if err != nil {
		return nil, nil, err
	}
	var objects [][]byte
	namespaces := map[string]bool{}
	plain := plainNames(units, j.exports)
	for _, u := range units {
		if u.result.Empty() {
			continue
		}
		b, err := u.result.Object.Bytes()
		if err != nil {
			return nil, nil, fmt.Errorf("writing the object of %s: %w", u.tu.Source, err)
		}
		objects = append(objects, b)
		for _, ns := range u.result.Namespaces {
			namespaces[ns] = true
		}
	}
	dir, err := os.MkdirTemp("", "lupatch-link-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	// Kernels that clear livepatch relocations when the target goes (since
	// 6.3, "livepatch,x86: Clear relocation targets on a module removal") have
	// this function; with any other the target has to stay.
	pin := len(j.syms.Lookup("clear_relocate_add")) == 0
	if err := j.checkTemplate(tab); err != nil {
		return nil, nil, err
	}
	header := tables(j.tree.Release, tab, len(man.Escapes) > 0, pin, slices.Sorted(maps.Keys(namespaces)))
	if err := writeModule(dir, man.Name, config(tab), header, objects); err != nil {
		return nil, nil, err
	}
	path, err := j.tree.LinkModule(ctx, dir, man.Name)
	if err != nil {
		return nil, nil, err
	}
	ko, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	section, err := manifest.EncodeSection(man)
	if err != nil {
		return nil, nil, fmt.Errorf("describing the update: %w", err)
	}
	patch, err := manifest.EncodePatch(j.change.text)
	if err != nil {
		return nil, nil, err
	}
	if ko, err = convert(ko, section, plain, notLoaded(manifest.PatchSection, patch)); err != nil {
		return nil, nil, fmt.Errorf("converting the linked module: %w", err)
	}
	return ko, man, nil
}

// describe makes the manifest and the tables of the module.
func (j *job) describe(units []*unit) (*manifest.Manifest, []unitObject, error) {
	man := &manifest.Manifest{
		Schema: manifest.Schema, Name: j.opt.Name, Method: "livepatch", Release: j.tree.Release,
		Created: time.Now().UTC().Truncate(time.Second), Class: manifest.ClassCode,
		Source: manifest.Source{SHA256: j.change.sha256, Subject: j.change.subject, CVE: j.cves(), Version: j.tree.Version,
			Files: j.ownPaths()},
		On: j.on(), Cumulative: j.opt.Cumulative, Moved: j.moved,
		Tools: manifest.Tools{Lupatch: cmp.Or(j.opt.Version, "devel"), Compiler: j.tree.Config["CONFIG_CC_VERSION_TEXT"]},
	}
	byName := map[string]*manifest.Unit{}
	tab := map[string]*unitObject{}
	for _, u := range units {
		name := u.tu.Unit
		mu := byName[name]
		if mu == nil {
			mu = &manifest.Unit{Name: name, BuildID: j.image.BuildID}
			mu.Needs, mu.Gives = j.versionsOf(name)
			if m := j.modules[name]; m != nil {
				mu.BuildID = m.buildID
			}
			byName[name], tab[name] = mu, &unitObject{name: name}
		}
		mu.Verified += u.placed.Verified
		mu.AlreadyRan = append(mu.AlreadyRan, u.result.AlreadyRan...)
		addData(mu, u)
		if u.result.Empty() {
			man.Review = append(man.Review, keptValues(u)...)
			continue
		}
		tab[name].add(u.result)
		if err := j.addFunctions(u, mu, tab[name]); err != nil {
			return nil, nil, err
		}
		addRelocations(mu, u.result.Refs)
		man.Escapes = append(man.Escapes, u.result.Escapes...)
		man.Review = append(man.Review, slices.Concat(u.result.Review, keptValues(u))...)
	}
	points, err := j.concurrency(units)
	if err != nil {
		return nil, nil, err
	}
	man.Review = append(points, slices.Concat(man.Review, j.change.inexact, j.review)...)
	var objects []unitObject
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		if !tab[name].empty() || len(byName[name].Functions) > 0 {
			man.Units = append(man.Units, *byName[name])
		}
		if len(tab[name].writes) > 0 {
			man.Class = manifest.ClassData
		}
		if !tab[name].empty() {
			objects = append(objects, *tab[name])
		}
	}
	return man, objects, nil
}

func (j *job) addFunctions(u *unit, mu *manifest.Unit, tab *unitObject) error {
	ks := j.symbolsOf(u)
	for _, f := range u.result.Functions {
		mf := manifest.Function{Name: f.Name, File: u.tu.Source, OldSize: f.OldSize, NewSize: f.NewSize, New: f.New, Effect: manifest.EffectNow, Drivers: f.Drivers, Params: f.Params}
		switch {
		case f.ProbeOnly:
			mf.Effect = manifest.EffectNextProbe
		case f.InitOnly:
			mf.Effect = manifest.EffectNever
		}
		if !f.New {
			ref, err := ks.Locate(f.Name, !f.Global)
			if err != nil {
				return err
			}
			d := u.digests[f.Name]
			mf.Sympos, mf.OldSize, mf.Digest = ref.Sympos, d.Size, fmt.Sprintf("%016x", d.Sum)
			tab.funcs = append(tab.funcs, tableFunc{old: f.Name, sympos: ref.Sympos, alias: f.Alias, code: d})
		}
		mu.Functions = append(mu.Functions, mf)
	}
	return nil
}

// addRelocations counts references, in the order of their names.
func addRelocations(mu *manifest.Unit, refs map[patchgen.Ref]int) {
	for ref, n := range refs {
		i := slices.IndexFunc(mu.Relocations, func(r manifest.Relocation) bool {
			return r.Object == ref.Object && r.Symbol == ref.Symbol && r.Sympos == ref.Sympos
		})
		if i < 0 {
			mu.Relocations = append(mu.Relocations, manifest.Relocation{Object: ref.Object, Symbol: ref.Symbol, Sympos: ref.Sympos, Exported: ref.Exported})
			i = len(mu.Relocations) - 1
		}
		mu.Relocations[i].Count += n
	}
	slices.SortFunc(mu.Relocations, func(a, b manifest.Relocation) int {
		return cmp.Or(strings.Compare(a.Object, b.Object), strings.Compare(a.Symbol, b.Symbol), a.Sympos-b.Sympos)
	})
}
