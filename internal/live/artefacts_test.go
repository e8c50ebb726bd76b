// SPDX-License-Identifier: Apache-2.0

package live

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bluekeyes/go-gitdiff/gitdiff"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/kpatch"
)

// artefacts are made once for all tests, when the first one asks for them.
type artefacts struct {
	mu   sync.Mutex
	dir  string
	made map[string]func() (string, error)
}

var made = artefacts{made: map[string]func() (string, error){}}

// get makes what is called name in a folder of its own.
func (a *artefacts) get(t testing.TB, name string, make func(ctx context.Context, dir string) (string, error)) string {
	t.Helper()
	labtest.SkipIfShort(t)
	a.mu.Lock()
	f := a.made[name]
	if f == nil {
		f = sync.OnceValues(func() (string, error) {
			dir := filepath.Join(a.dir, name)
			if err := os.Mkdir(dir, 0o755); err != nil {
				return "", err
			}
			return make(context.Background(), dir)
		})
		a.made[name] = f
	}
	a.mu.Unlock()
	path, err := f()
	if err != nil {
		t.Fatalf("making %s: %v", name, err)
	}
	return path
}

// module builds a folder of testdata with the kernel's own build; change, if
// not nil, is applied to the content of its C files.
func module(t testing.TB, as, folder, name string, change func(string) string) string {
	t.Helper()
	return made.get(t, as, func(ctx context.Context, dir string) (string, error) {
		if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", folder))); err != nil {
			return "", err
		}
		sources, err := filepath.Glob(filepath.Join(dir, "*.c"))
		if err != nil {
			return "", err
		}
		for _, s := range sources {
			b, err := os.ReadFile(s)
			if err != nil {
				return "", err
			}
			if change != nil {
				b = []byte(change(string(b)))
			}
			if err := os.WriteFile(s, b, 0o644); err != nil {
				return "", err
			}
		}
		tree, err := kbuild.Open(ctx, kbuild.Options{Release: labtest.Release})
		if err != nil {
			return "", err
		}
		return tree.LinkModule(ctx, dir, name)
	})
}

// target is the module that updates are built for, as its vendor ships it.
func target(t testing.TB) string { return module(t, "target", "target", "lutarget", nil) }

const (
	shippedValue = "#define LUTARGET_VALUE 11"
	otherValue   = "#define LUTARGET_VALUE 12"
)

// wrongTarget is a module of the same name with another function in it.
func wrongTarget(t testing.TB) string {
	return module(t, "wrong-target", "target", "lutarget", func(s string) string { return strings.Replace(s, shippedValue, otherValue, 1) })
}

// kernelPatch has the patches that are for the kernel's own source; the others
// in testdata are for the module lutarget.
var kernelPatch = map[string]string{
	"crypto": "testdata/crypto.patch", "warn": "testdata/warn.patch", "hide": "testdata/hide.patch", "keys": "testdata/keys.patch", "probe": "testdata/probe.patch", "untraced": "testdata/untraced.patch",
	"meminfo": "../../examples/meminfo-used.patch", "mtu": "../../examples/e1000-mtu-limit.patch", "two": "../../examples/two-units.patch",
	"interface": "../../examples/k42-new-interface.patch", "race": "../../examples/k42-race.patch", "instances": "../../examples/k42-live-instances.patch",
	"kpatch": "testdata/kpatch.patch", "values": "testdata/values.patch", "shared": "testdata/shared.patch", "prototype": "testdata/prototype.patch",
}

// dataRules are what --data says when an update is built.
var dataRules = map[string][]string{
	"data":   {"write@pre", "data_label=write@post"},
	"values": {"write@pre"},
}

// an update that was built: its file, and what it says about itself.
type built struct {
	name, file string
	image      []byte
	manifest   *manifest.Manifest
}

// update builds the update lupatch_NAME from the patch of that name.
func update(t testing.TB, name string) built { t.Helper(); return updateFor(t, labtest.Release, name) }

func updateFor(t testing.TB, release, name string) built {
	t.Helper()
	opt := build.Options{Patch: kernelPatch[name], Release: release, Name: "lupatch_" + name}
	if opt.Patch == "" {
		opt.Patch, opt.Dir = filepath.Join("testdata", name+".patch"), filepath.Dir(target(t))
	}
	for _, text := range dataRules[name] {
		r, err := build.ParseDataRule(text)
		if err != nil {
			t.Fatal(err)
		}
		opt.Data = append(opt.Data, r)
	}
	file := made.get(t, "update-"+name+"-"+release, func(ctx context.Context, dir string) (string, error) {
		opt.Output = filepath.Join(dir, opt.Name+".ko")
		res, err := build.Run(ctx, opt)
		if err != nil {
			return "", err
		}
		var took []string
		for _, s := range res.Stages {
			took = append(took, fmt.Sprintf("%s %.1f s", s.Name, s.Took.Seconds()))
		}
		t.Logf("built %s: %s", name, strings.Join(took, ", "))
		return res.Path, nil
	})
	image, m, err := manifest.ReadModule(file)
	if err != nil {
		t.Fatal(err)
	}
	return built{name: opt.Name, file: file, image: image, manifest: m}
}

// altered is a whole and sealed update in which texts are replaced by others of
// the same length.
func (b built) altered(t testing.TB, pairs ...string) []byte {
	t.Helper()
	image := b.image
	for i := 0; i < len(pairs); i += 2 {
		if len(pairs[i]) != len(pairs[i+1]) || !bytes.Contains(image, []byte(pairs[i])) {
			t.Fatalf("%s: %q cannot be replaced by %q", b.name, pairs[i], pairs[i+1])
		}
		image = bytes.ReplaceAll(image, []byte(pairs[i]), []byte(pairs[i+1]))
	}
	image, err := manifest.Seal(image)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// on is an update with a manifest that puts it on top of another one.
func (b built) on(t testing.TB, below built) []byte {
	t.Helper()
	m := *b.manifest
	m.Units = slices.Clone(m.Units)
	m.Units[0].Needs, m.Units[0].Gives = 1, 2
	id, err := kpatch.ImageBuildID(below.image)
	if err != nil {
		t.Fatal(err)
	}
	m.On = []manifest.Base{{Update: below.name, BuildID: id}}
	content, err := manifest.EncodeSection(&m)
	if err != nil {
		t.Fatal(err)
	}
	f, err := elfobj.Read(b.image)
	if err != nil {
		t.Fatal(err)
	}
	s := f.Section(manifest.Section)
	s.Data, s.Size = content, uint64(len(content))
	image, err := f.Bytes()
	if err == nil {
		image, err = manifest.Seal(image)
	}
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// patched gives the files that a patch changes, with the change, read from the
// source at root.
func patched(t testing.TB, patch, root string) map[string][]byte {
	t.Helper()
	text, err := os.Open(patch)
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	files, _, err := gitdiff.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, f := range files {
		old, err := os.ReadFile(filepath.Join(root, f.NewName))
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := gitdiff.Apply(&b, bytes.NewReader(old), f); err != nil {
			t.Fatal(err)
		}
		out[f.NewName] = b.Bytes()
	}
	return out
}
