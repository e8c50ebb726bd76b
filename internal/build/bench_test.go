// SPDX-License-Identifier: Apache-2.0

package build_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/kbuild"
	"github.com/lupatch/lupatch/patchgen"
)

func benchmarkBuild(b *testing.B, cached bool) {
	realTree(b)
	opt := build.Options{Patch: "../../examples/e1000-mtu-limit.patch", Release: release, Output: filepath.Join(b.TempDir(), "x.ko")}
	if _, err := build.Run(b.Context(), opt); err != nil {
		b.Fatal(err)
	}
	stages := map[string]time.Duration{}
	var names []string
	for i := 0; b.Loop(); i++ {
		if !cached {
			// A name that nobody reads: other flags, the same code.
			opt.ExtraFlags = []string{fmt.Sprintf("-DLUPATCH_BENCHMARK=%d%d", time.Now().UnixNano(), i)}
		}
		res, err := build.Run(b.Context(), opt)
		if err != nil {
			b.Fatal(err)
		}
		for _, s := range res.Stages {
			if _, ok := stages[s.Name]; !ok {
				names = append(names, s.Name)
			}
			stages[s.Name] += s.Took
		}
	}
	for _, n := range names {
		b.ReportMetric(stages[n].Seconds()/float64(b.N), "s-"+n)
	}
}

// BenchmarkBuildE1000Cached is a build whose objects are in the cache, as when
// a patch is built for the second time.
func BenchmarkBuildE1000Cached(b *testing.B) { benchmarkBuild(b, true) }

// BenchmarkBuildE1000Uncached compiles every object, on prepared source.
func BenchmarkBuildE1000Uncached(b *testing.B) { benchmarkBuild(b, false) }

// unique is a kernel in which every symbol is there once.
type unique struct{ exports map[string]kbuild.Export }

func (unique) Callable(patchgen.Ref) bool { return true }

func (u unique) Exported(name string) (string, string, bool) {
	e, ok := u.exports[name]
	return e.Module, e.Namespace, ok
}

func (unique) Locate(name string, _ bool) (patchgen.Ref, error) {
	return patchgen.Ref{Object: "e1000", Symbol: name}, nil
}

// BenchmarkGenerate compares the two versions of e1000_main.c, the largest
// file of the driver, and makes the livepatch object.
func BenchmarkGenerate(b *testing.B) {
	tree := realTree(b)
	exports, err := tree.ModuleSymvers()
	if err != nil {
		b.Fatal(err)
	}
	tu, err := tree.TU(b.Context(), e1000C)
	if err != nil {
		b.Fatal(err)
	}
	src, err := os.ReadFile(filepath.Join(tree.Src, e1000C))
	if err != nil {
		b.Fatal(err)
	}
	const at = "\tint max_frame = new_mtu + ETH_HLEN + ETH_FCS_LEN;\n"
	ov, err := tree.Overlay(map[string][]byte{e1000C: []byte(strings.Replace(string(src), at, at+"\n\tif (new_mtu > 9000)\n\t\treturn -EINVAL;\n", 1))})
	if err != nil {
		b.Fatal(err)
	}
	defer ov.Close()
	var objs [2][]byte
	for i, o := range []*kbuild.Overlay{nil, ov} {
		obj, err := tree.Compile(b.Context(), kbuild.Job{TU: tu, Overlay: o, Flavor: kbuild.Sections})
		if err != nil {
			b.Fatal(err)
		}
		if objs[i], err = os.ReadFile(obj.Path); err != nil {
			b.Fatal(err)
		}
	}
	ext, err := patchgen.ReadExtents(objs[0], e1000C)
	if err != nil {
		b.Fatal(err)
	}
	lines := &patchgen.LineMap{Hunks: []patchgen.LineHunk{{OldStart: 3523, NewStart: 3523, NewLines: 3}}}
	b.ReportAllocs()
	for b.Loop() {
		old, err := elfobj.Read(objs[0])
		if err != nil {
			b.Fatal(err)
		}
		new, err := elfobj.Read(objs[1])
		if err != nil {
			b.Fatal(err)
		}
		res, err := patchgen.Generate(patchgen.Input{
			Unit: "e1000", Old: old, New: new, Sizes: patchgen.DefaultSizes(), Lines: lines, OldLines: ext,
			Kernel: unique{exports}, AliasPrefix: "a",
		})
		if err != nil {
			b.Fatal(err)
		}
		if len(res.Functions) != 1 || res.Functions[0].Name != "e1000_change_mtu" {
			b.Fatalf("%+v", res.Functions)
		}
	}
}
