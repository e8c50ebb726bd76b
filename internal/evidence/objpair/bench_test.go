// SPDX-License-Identifier: Apache-2.0

package objpair

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/patchgen"
)

// keptPairs finds the fixes that `make evidence-differ` kept pairs of.
func keptPairs(b *testing.B) (fixes []*Fix) {
	root, err := Root("*", "*")
	if err != nil {
		b.Fatal(err)
	}
	dirs, err := filepath.Glob(filepath.Join(root, "*"))
	if err != nil {
		b.Fatal(err)
	}
	for _, d := range dirs {
		f, err := Read(d)
		if os.IsNotExist(err) {
			continue // one that is being made
		}
		if err != nil {
			b.Fatal(err)
		}
		if len(f.Pairs) > 0 {
			fixes = append(fixes, f)
		}
	}
	if len(fixes) == 0 {
		b.Skip("no object pairs are kept; `make evidence-differ CORPUS=FOLDER` makes them")
	}
	return fixes
}

// benchmark goes through all pairs each time; reading them is not timed.
func benchmark(b *testing.B, work func(x *Pair, old, new []byte) error) {
	fixes := keptPairs(b)
	var pairs, size int64
	for b.Loop() {
		pairs, size = 0, 0
		for _, f := range fixes {
			for n := range f.Pairs {
				b.StopTimer()
				old, new, err := f.Bytes(n)
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if err := work(&f.Pairs[n], old, new); err != nil {
					if _, ok := refuse.As(err); !ok {
						b.Fatalf("%s: %s: %v", f.Dir, f.Pairs[n].Source, err)
					}
				}
				pairs++
				size += int64(len(old) + len(new))
			}
		}
	}
	b.SetBytes(size)
	b.ReportMetric(float64(pairs), "pairs")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(pairs), "ns/pair")
}

// BenchmarkCorpusPairs compares every kept pair and makes its livepatch object.
func BenchmarkCorpusPairs(b *testing.B) {
	benchmark(b, func(x *Pair, old, new []byte) error {
		_, _, err := x.Generate(old, new, nil)
		return err
	})
}

// BenchmarkCorpusLayouts compares the layouts of their structures, which a build
// does besides and create-diff-object does not.
func BenchmarkCorpusLayouts(b *testing.B) {
	benchmark(b, func(_ *Pair, old, new []byte) error { return patchgen.CheckLayouts(old, new) })
}
