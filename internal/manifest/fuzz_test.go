// SPDX-License-Identifier: Apache-2.0

package manifest_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch/kpatchtest"
)

// FuzzDecode: what is read can be written and read again as the same; anything
// else is a refusal.
func FuzzDecode(f *testing.F) {
	good, err := manifest.Encode(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"schema":3}`))
	f.Add([]byte(`{"schema":1,"units":[{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := manifest.Decode(data)
		if err != nil {
			if e, ok := refuse.As(err); !ok || e.ID != refuse.NotAnUpdate {
				t.Fatalf("not a refusal: %v", err)
			}
			return
		}
		again, err := manifest.Encode(m)
		if err != nil {
			t.Fatalf("decoded but cannot be encoded: %v", err)
		}
		m2, err := manifest.Decode(again)
		if err != nil {
			t.Fatalf("encoded but cannot be decoded: %v", err)
		}
		b2, _ := manifest.Encode(m2)
		if d := cmp.Diff(string(again), string(b2)); d != "" {
			t.Fatal(d)
		}
	})
}

// FuzzFromModule: no file makes the reader panic, and sealing what can be
// sealed makes it verify.
func FuzzFromModule(f *testing.F) {
	file := kpatchtest.Module(sample())
	f.Add(file)
	f.Add(kpatchtest.Sign(file))
	f.Add(file[:len(file)/2])
	f.Add(kpatchtest.ELF("x", kpatchtest.Release, nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := manifest.FromModule(data); err != nil {
			if e, ok := refuse.As(err); !ok || e.ID != refuse.NotAnUpdate {
				t.Fatalf("not a refusal: %v", err)
			}
		}
		sealed, err := manifest.Seal(data)
		if err != nil {
			return
		}
		if err := manifest.Verify(sealed); err != nil {
			t.Fatalf("sealed but not verified: %v", err)
		}
	})
}
