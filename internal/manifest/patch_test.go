// SPDX-License-Identifier: Apache-2.0

package manifest_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/kpatch/kpatchtest"
)

func TestPatch(t *testing.T) {
	want := bytes.Repeat([]byte("-old\n+new\n"), 1000)
	m := sample()
	sum := sha256.Sum256(want)
	m.Source.SHA256 = hex.EncodeToString(sum[:])
	packed, err := manifest.EncodePatch(want)
	if err != nil || len(packed) >= len(want) {
		t.Fatal(len(packed), err)
	}
	if again, _ := manifest.EncodePatch(want); !bytes.Equal(packed, again) {
		t.Error("the same patch gave other bytes")
	}
	file := kpatchtest.ModuleWith(m, packed)
	if _, err := manifest.FromModule(file); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string][]byte{"plain": file, "signed": kpatchtest.Sign(file)} {
		if got, err := manifest.Patch(f, m); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	_, err = manifest.Patch(kpatchtest.Module(m), m)
	wantRefusal(t, err, "does not carry the patch")
	_, err = manifest.Patch(kpatchtest.ModuleWith(m, packed[:len(packed)/2]), m)
	wantRefusal(t, err, "cannot be unpacked")
	_, err = manifest.Patch(kpatchtest.ModuleWith(m, want), m)
	wantRefusal(t, err, "cannot be unpacked")
	_, err = manifest.Patch(file, sample())
	wantRefusal(t, err, "not the one that its manifest names")
	bomb, err := manifest.EncodePatch(make([]byte, manifest.MaxPatch+1))
	if err != nil {
		t.Fatal(err)
	}
	_, err = manifest.Patch(kpatchtest.ModuleWith(m, bomb), m)
	wantRefusal(t, err, "larger than")
	_, err = manifest.Patch([]byte("#!/bin/sh\n"), m)
	wantRefusal(t, err, "ELF")
}

// FuzzPatch: no file makes the reader panic.
func FuzzPatch(f *testing.F) {
	m := sample()
	packed, err := manifest.EncodePatch([]byte("--- a/x.c\n"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(kpatchtest.ModuleWith(m, packed))
	f.Add(kpatchtest.Module(m))
	f.Fuzz(func(t *testing.T, data []byte) {
		if patch, err := manifest.Patch(data, m); err == nil && patch == nil {
			t.Fatal("neither a patch nor an error")
		}
	})
}
