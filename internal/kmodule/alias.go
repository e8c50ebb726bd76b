// SPDX-License-Identifier: Apache-2.0

package kmodule

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/google/renameio/v2"
)

// Providers gives the modules that can be loaded under a name, as modprobe finds
// them: the module of that name, else all that have it for an alias. Patterns are
// not matched: soft dependencies name no devices. There may be none.
func (t *Tree) Providers(name string) ([]string, error) {
	name = CanonicalName(name)
	if t.Has(name) || t.Builtin(name) {
		return []string{name}, nil
	}
	if t.aliases == nil {
		index, err := t.readAliases()
		if err != nil {
			return nil, err
		}
		t.aliases = index
	}
	return t.aliases[name], nil
}

// readAliases takes the index from depmod's file if the kernel is installed, or
// from AliasCache, or makes it: every module has to be read for that.
func (t *Tree) readAliases() (map[string][]string, error) {
	for _, path := range []string{filepath.Join(t.dir, "modules.alias"), t.AliasCache} {
		if path == "" {
			continue
		}
		text, err := os.ReadFile(path)
		if err == nil {
			return parseAliases(string(text)), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("reading aliases of modules: %w", err)
		}
	}
	modules, err := t.scan()
	if err != nil {
		return nil, err
	}
	text := AliasFile(modules)
	if t.AliasCache != "" {
		if err := os.MkdirAll(filepath.Dir(t.AliasCache), 0o755); err != nil {
			return nil, fmt.Errorf("keeping aliases of modules: %w", err)
		}
		if err := renameio.WriteFile(t.AliasCache, text, 0o644); err != nil {
			return nil, fmt.Errorf("keeping aliases of modules: %w", err)
		}
	}
	return parseAliases(string(text)), nil
}

// parseAliases reads lines of "alias PATTERN MODULE" without real patterns.
func parseAliases(text string) map[string][]string {
	out := map[string][]string{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "alias" || strings.ContainsAny(f[1], "*?[") {
			continue
		}
		name, module := CanonicalName(f[1]), CanonicalName(f[2])
		if !slices.Contains(out[name], module) {
			out[name] = append(out[name], module)
		}
	}
	return out
}

// scan reads what all modules say about themselves, in the order of their names.
func (t *Tree) scan() ([]*Module, error) {
	names := slices.Sorted(maps.Keys(t.files))
	infos, errs := make([]*Module, len(names)), make([]error, len(names))
	var wg sync.WaitGroup
	next := make(chan int)
	for range runtime.NumCPU() {
		wg.Go(func() {
			for i := range next {
				info, err := readInfo(filepath.Join(t.dir, t.files[names[i]]))
				if errors.Is(err, ErrNotModule) {
					continue // nothing that anybody could load
				}
				infos[i], errs[i] = &Module{Info: info}, err
				if info != nil && info.Name == "" {
					info.Name = names[i]
				}
			}
		})
	}
	for i := range names {
		next <- i
	}
	close(next)
	wg.Wait()
	return slices.DeleteFunc(infos, func(m *Module) bool { return m == nil }), errors.Join(errs...)
}

// readInfo reads no more of a module file than it has to.
func readInfo(path string) (*Info, error) {
	if strings.HasSuffix(path, ".ko") {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			return nil, err
		}
		return parseInfo(f, uint64(st.Size()))
	}
	image, err := Read(path)
	if err != nil {
		return nil, err
	}
	return parseInfo(bytes.NewReader(image), uint64(len(image)))
}

// SoftdepFile writes modules.softdep.
func SoftdepFile(modules []*Module) []byte {
	var b strings.Builder
	for _, m := range modules {
		if len(m.Pre)+len(m.Post) == 0 {
			continue
		}
		b.WriteString("softdep " + m.Name)
		for _, x := range []struct {
			word  string
			names []string
		}{{"pre:", m.Pre}, {"post:", m.Post}} {
			if len(x.names) > 0 {
				b.WriteString(" " + x.word + " " + strings.Join(x.names, " "))
			}
		}
		b.WriteByte('\n')
	}
	return []byte(b.String())
}

// ParseSoftdep reads modules.softdep: what is to be loaded before and after each
// module, if it can be.
func ParseSoftdep(text string) map[string]*Info {
	out := map[string]*Info{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "softdep" {
			continue
		}
		name := CanonicalName(f[1])
		if out[name] == nil {
			out[name] = &Info{Name: name}
		}
		out[name].softdep(strings.Join(f[2:], " "))
	}
	return out
}
