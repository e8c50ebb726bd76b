// SPDX-License-Identifier: Apache-2.0

package versions_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/lupatch/lupatch/versions"
)

func TestDriverStore(t *testing.T) {
	s := versions.DriverStore{Dir: filepath.Join(t.TempDir(), "drivers")}
	put := func(n int, id, image string) {
		t.Helper()
		if err := s.Put(&versions.DriverVersion{Module: "e1000", Number: n, BuildID: id, Params: "debug=1"}, []byte(image)); err != nil {
			t.Fatal(err)
		}
	}
	want := func(ids ...string) {
		t.Helper()
		list, err := s.Versions("e1000")
		if err != nil || len(list) != len(ids) {
			t.Fatalf("%d versions, %v; want %v", len(list), err, ids)
		}
		for i, v := range list {
			image, err := s.Image(v)
			if err != nil || v.BuildID != ids[i] || v.Number != i || v.Params != "debug=1" || string(image) != "image "+ids[i] {
				t.Errorf("version %d is %+v with %q, %v", i, v, image, err)
			}
		}
	}
	want()
	if m, err := s.Modules(); err != nil || len(m) != 0 {
		t.Errorf("modules %v, %v", m, err)
	}
	put(0, "aa", "image aa")
	put(1, "bb", "image bb")
	put(2, "cc", "image cc")
	want("aa", "bb", "cc")
	// Another second one.
	put(2, "dd", "image dd")
	want("aa", "bb", "dd")
	if err := s.Cut("e1000", 1); err != nil {
		t.Fatal(err)
	}
	want("aa")
	if err := s.Cut("e1000", 1); err != nil {
		t.Errorf("cutting nothing: %v", err)
	}
	if m, err := s.Modules(); err != nil || len(m) != 1 || m[0] != "e1000" {
		t.Errorf("modules %v, %v", m, err)
	}
}

// A crash while a version is being stored leaves none that is half there.
func TestDriverStoreAfterCrash(t *testing.T) {
	s := versions.DriverStore{Dir: t.TempDir()}
	if err := s.Put(&versions.DriverVersion{Module: "e1000", BuildID: "aa"}, []byte("a")); err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(s.Dir, "e1000", "1")
	if err := os.Mkdir(half, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(half, "module.ko"), []byte("b"), 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := s.Versions("e1000"); err != nil || len(list) != 1 {
		t.Errorf("%d versions, %v", len(list), err)
	}
	if err := os.WriteFile(filepath.Join(half, "version.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := s.Versions("e1000"); err == nil {
		t.Errorf("a damaged description is read as %d versions", len(list))
	}
	if err := s.Cut("e1000", 1); err != nil {
		t.Error(err)
	}
	if list, err := s.Versions("e1000"); err != nil || len(list) != 1 {
		t.Errorf("%d versions behind the cut, %v", len(list), err)
	}
}
