// SPDX-License-Identifier: Apache-2.0

package kmodule

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Tree is the folder /lib/modules/RELEASE of one kernel. It is not safe for use
// by several goroutines at once.
type Tree struct {
	// AliasCache is a file in which the modules' aliases are kept, if the tree has
	// no modules.alias and they were asked for; they are of this tree alone. Empty
	// for none.
	AliasCache string

	dir     string
	files   map[string]string // canonical name → path below dir
	builtin map[string]bool
	loaded  map[string]*Module
	aliases map[string][]string
}

// Module is one module of a tree, decompressed.
type Module struct {
	*Info
	// Path is relative to the tree, without a compression suffix.
	Path  string
	Image []byte
}

// ErrUnknown says that a tree has no module of a name.
var ErrUnknown = errors.New("no such module")

// Open indexes the modules below dir by name. Files are read only when needed.
func Open(dir string) (*Tree, error) {
	t := &Tree{dir: dir, files: map[string]string{}, builtin: map[string]bool{}, loaded: map[string]*Module{}}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, ok := nameOf(d.Name())
		if !ok || d.IsDir() {
			// "build" and "source" are links to the headers, not followed by WalkDir.
			return nil
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		// depmod prefers updates/ over what came with the kernel.
		if _, have := t.files[name]; !have || strings.HasPrefix(rel, "updates/") {
			t.files[name] = rel
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing the modules of %s: %w", dir, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the list of built-in modules: %w", err)
	}
	for _, line := range strings.Fields(string(text)) {
		if name, ok := nameOf(filepath.Base(line)); ok {
			t.builtin[name] = true
		}
	}
	return t, nil
}

// Builtin says whether a module is part of the kernel image.
func (t *Tree) Builtin(name string) bool { return t.builtin[CanonicalName(name)] }

// Has says whether the tree has a file for the module.
func (t *Tree) Has(name string) bool { return t.files[CanonicalName(name)] != "" }

// Load reads one module. An error that wraps ErrUnknown says that there is none.
func (t *Tree) Load(name string) (*Module, error) {
	name = CanonicalName(name)
	if m := t.loaded[name]; m != nil {
		return m, nil
	}
	rel, ok := t.files[name]
	if !ok {
		return nil, fmt.Errorf("looking for %s in %s: %w", name, t.dir, ErrUnknown)
	}
	image, err := Read(filepath.Join(t.dir, rel))
	if err != nil {
		return nil, err
	}
	info, err := ParseInfo(image)
	if err != nil {
		return nil, fmt.Errorf("reading module %s: %w", filepath.Join(t.dir, rel), err)
	}
	// Kernels before 4.13 do not put the name into .modinfo.
	if info.Name == "" {
		info.Name = name
	}
	m := &Module{Info: info, Image: image, Path: rel[:strings.LastIndex(rel, ".ko")] + ".ko"}
	t.loaded[name] = m
	return m, nil
}

// Closure gives the named modules and all they need, each after what it needs.
// Built-in ones are left out. Soft dependencies are taken where the tree has
// them.
func (t *Tree) Closure(names ...string) ([]*Module, error) {
	c := closure{tree: t, state: map[string]visit{}}
	for _, n := range names {
		if err := c.add(CanonicalName(n)); err != nil {
			return nil, err
		}
	}
	return c.order, nil
}

type visit int

const (
	unseen visit = iota
	open
	done
)

type closure struct {
	tree  *Tree
	state map[string]visit
	order []*Module
}

func (c *closure) add(name string) error {
	switch {
	case c.state[name] == done, c.tree.Builtin(name) && !c.tree.Has(name):
		return nil
	case c.state[name] == open:
		return fmt.Errorf("ordering modules: %s needs itself", name)
	}
	m, err := c.tree.Load(name)
	if err != nil {
		return err
	}
	c.state[name] = open
	for _, d := range m.Depends {
		if err := c.add(d); err != nil {
			return fmt.Errorf("for %s: %w", name, err)
		}
	}
	if err := c.soft(m.Pre); err != nil {
		return err
	}
	c.state[name] = done
	c.order = append(c.order, m)
	return c.soft(m.Post)
}

// soft adds what can be added; a circle through a soft dependency is cut.
func (c *closure) soft(names []string) error {
	for _, n := range names {
		providers, err := c.tree.Providers(n)
		if err != nil {
			return err
		}
		for _, p := range providers {
			if c.state[p] != unseen || !c.tree.Has(p) {
				continue
			}
			if err := c.add(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// DepFile writes modules.dep for modules that come from Closure: each line names
// a module and what it needs, to be loaded from right to left (modules.dep(5)).
func DepFile(modules []*Module) []byte {
	path := map[string]string{}
	deps := map[string][]string{}
	var b strings.Builder
	for _, m := range modules {
		path[m.Name] = m.Path
		var need []string
		for i := len(m.Depends) - 1; i >= 0; i-- {
			d := m.Depends[i]
			if path[d] == "" {
				continue // built in
			}
			need = appendNew(need, d)
			need = appendNew(need, deps[d]...)
		}
		need = needersFirst(need, deps)
		deps[m.Name] = need
		b.WriteString(m.Path + ":")
		for _, n := range need {
			b.WriteString(" " + path[n])
		}
		b.WriteByte('\n')
	}
	return []byte(b.String())
}

// needersFirst sorts so that nothing stands left of what needs it.
func needersFirst(names []string, deps map[string][]string) []string {
	var out []string
	var place func(n string)
	placed := map[string]bool{}
	place = func(n string) {
		if placed[n] {
			return
		}
		placed[n] = true
		for _, d := range deps[n] {
			place(d)
		}
		out = append([]string{n}, out...)
	}
	for i := len(names) - 1; i >= 0; i-- {
		place(names[i])
	}
	return out
}

func appendNew(list []string, more ...string) []string {
	for _, m := range more {
		found := false
		for _, l := range list {
			found = found || l == m
		}
		if !found {
			list = append(list, m)
		}
	}
	return list
}

// AliasFile writes modules.alias.
func AliasFile(modules []*Module) []byte {
	var b strings.Builder
	for _, m := range modules {
		for _, a := range m.Aliases {
			fmt.Fprintf(&b, "alias %s %s\n", a, m.Name)
		}
	}
	return []byte(b.String())
}
