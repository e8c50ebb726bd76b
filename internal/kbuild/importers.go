// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/google/renameio/v2"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/lupatch/lupatch/internal/kmodule"
	"github.com/lupatch/lupatch/internal/refuse"
)

// imports says which modules take a symbol from elsewhere.
type imports struct {
	// Modules are their names, as the kernel knows them.
	Modules []string
	// Users maps a symbol to places in Modules.
	Users map[string][]int
}

// importsVersion changes when what is kept changes.
const importsVersion = "1"

// Importers lists the modules that the kernel comes with and that take one of the
// symbols from elsewhere, sorted. Modules of others cannot be known. Looking
// through them all takes some seconds, once for a distribution's kernel. Refusal:
// SourceUnavailable if a tree of the user has no modules.
func (t *Tree) Importers(ctx context.Context, symbols ...string) ([]string, error) {
	all, err := t.imports(ctx)
	if err != nil {
		return nil, fmt.Errorf("looking for modules that use %s: %w", strings.Join(symbols, ", "), err)
	}
	found := map[string]bool{}
	for _, s := range symbols {
		for _, i := range all.Users[s] {
			found[all.Modules[i]] = true
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// Parts lists what a module is made of: its C sources, and objects that are made
// of something else. It gives none if that is not known.
func (t *Tree) Parts(ctx context.Context, module string) ([]string, error) {
	l, err := t.whole(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for m, objs := range l.Modules {
		if moduleName(m) != module {
			continue
		}
		for _, o := range objs {
			if c := sourceOf(unmark(l.Commands[o], t.Src, l.obj)); c != "" {
				o = relative(c, t.Src, l.obj)
			}
			out = append(out, o)
		}
	}
	slices.Sort(out)
	return out, nil
}

func (t *Tree) imports(ctx context.Context) (*imports, error) {
	t.importsMu.Lock()
	defer t.importsMu.Unlock()
	if t.imported != nil {
		return t.imported, nil
	}
	kept := ""
	if t.Kind == KindPackages {
		kept = filepath.Join(t.cache, "imports", t.key+"_v"+importsVersion+".json.zst")
		if b, err := kmodule.Read(kept); err == nil {
			var im imports
			if json.Unmarshal(b, &im) == nil {
				t.imported = &im
				return t.imported, nil
			}
		}
	}
	dirs, err := t.moduleFolders(ctx)
	if err != nil {
		return nil, err
	}
	im, err := t.scanModules(ctx, dirs)
	if err != nil {
		return nil, err
	}
	t.imported = im
	if kept != "" {
		keepImports(kept, im)
	}
	return im, nil
}

// moduleFolders are where the kernel's modules lie.
func (t *Tree) moduleFolders(ctx context.Context) ([]string, error) {
	switch t.Kind {
	case KindTree:
		return []string{t.UserObj, filepath.Join("/lib/modules", t.Release)}, nil
	case KindModule:
		debs, err := t.debs()
		if err != nil {
			return nil, err
		}
		k, err := debs.KernelImage(ctx, t.Release)
		if err != nil {
			return nil, err
		}
		return []string{t.Src, k.Modules()}, nil
	}
	debs, err := t.debs()
	if err != nil {
		return nil, err
	}
	k, err := debs.KernelImageVersion(ctx, t.Release, t.Version)
	if err != nil {
		return nil, err
	}
	return []string{k.Modules()}, nil
}

// scanModules reads all modules below the folders.
func (t *Tree) scanModules(ctx context.Context, dirs []string) (*imports, error) {
	var files []string
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || ctx.Err() != nil {
				return ctx.Err() // a folder that cannot be read holds nothing for us
			}
			if base, rest, ok := strings.Cut(d.Name(), ".ko"); ok && base != "" && !d.IsDir() && slices.Contains(moduleSuffixes, ".ko"+rest) {
				files = append(files, p)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if len(files) == 0 {
		return nil, refuse.New(refuse.SourceUnavailable, t.Release, "there are no modules below %s, so that it cannot be told which of them use a symbol", strings.Join(dirs, " or "))
	}
	im := &imports{Users: map[string][]int{}, Modules: make([]string, len(files))}
	var mu sync.Mutex
	var done int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, file := range files {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			symbols, err := undefined(file)
			if err != nil {
				return fmt.Errorf("reading the module %s: %w", file, err)
			}
			mu.Lock()
			defer mu.Unlock()
			base, _, _ := strings.Cut(filepath.Base(file), ".ko")
			im.Modules[i] = moduleName(base)
			for _, s := range symbols {
				im.Users[s] = append(im.Users[s], i)
			}
			done++
			t.progress("reading what modules use", done, int64(len(files)))
			return nil
		})
	}
	return im, g.Wait()
}

// undefined lists the symbols that a module takes from elsewhere. Of one that is
// not compressed only the symbols are read.
func undefined(file string) ([]string, error) {
	h, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	var r io.ReaderAt = h
	if filepath.Ext(file) != ".ko" {
		b, err := kmodule.Read(file)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(b)
	}
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, err
	}
	symbols, err := f.Symbols()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, y := range symbols {
		if y.Section == elf.SHN_UNDEF && y.Name != "" {
			out = append(out, y.Name)
		}
	}
	return out, nil
}

// keepImports writes it to disk; a failure only costs time later.
func keepImports(file string, im *imports) {
	b, err := json.Marshal(im)
	if err != nil || os.MkdirAll(filepath.Dir(file), 0o755) != nil {
		return
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return
	}
	defer z.Close()
	_ = renameio.WriteFile(file, z.EncodeAll(b, nil), 0o644)
}
