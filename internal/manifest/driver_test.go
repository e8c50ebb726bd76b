// SPDX-License-Identifier: Apache-2.0

package manifest_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/kpatch/kpatchtest"
)

func driver() kpatchtest.Driver {
	return kpatchtest.Driver{
		Name: "8139cp", Release: kpatchtest.Release,
		Info:    []string{"alias=pci:v000010ECd00008139sv*", "version=1.3", "srcversion=ABC"},
		Imports: map[string]uint32{"alloc_etherdev_mqs": 0x1234, "_printk": 1},
	}
}

func writeFile(t *testing.T, path string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A module of which nobody has told anything describes itself.
func TestDerivedDriver(t *testing.T) {
	image := driver().Image()
	p := writeFile(t, filepath.Join(t.TempDir(), "new-8139cp.ko"), image)
	for name, read := range map[string]func(string) ([]byte, *manifest.Manifest, error){"ReadDriver": manifest.ReadDriver, "ReadUpdate": manifest.ReadUpdate} {
		got, m, err := read(p)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		id := kpatchtest.BuildID("8139cp")
		want := &manifest.Driver{
			SHA256: manifest.Digest(image), BuildID: id, Class: "net", Version: "1.3", SrcVersion: "ABC",
			Devices: []string{"pci:v000010ECd00008139sv*"},
		}
		if d := cmp.Diff(want, m.Units[0].Driver); d != "" {
			t.Error(d)
		}
		if m.Method != "driver" || m.Name != "driver_8139cp_"+id[:8] || m.Release != kpatchtest.Release || m.Units[0].Name != "8139cp" || m.Units[0].BuildID != "" {
			t.Errorf("%s: %+v", name, m)
		}
		if string(got) != string(image) {
			t.Errorf("%s: another file", name)
		}
	}
	if _, _, err := manifest.ReadModule(p); err == nil {
		t.Error("it was taken for a livepatch")
	}
}

// File and manifest belong together.
func TestDriverBesides(t *testing.T) {
	dir := t.TempDir()
	image := driver().Image()
	m, err := manifest.ForDriver(image, time.Unix(1e9, 0))
	if err != nil {
		t.Fatal(err)
	}
	m.Name, m.Source.Version, m.Units[0].BuildID = "rtl_fixed", "6.1.176-1", kpatchtest.BuildID("old")
	text, err := manifest.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(dir, "8139cp.ko")
	writeFile(t, p+manifest.DriverSuffix, text)
	// A signature of the kernel's is put behind the file later.
	for name, file := range map[string][]byte{"plain": image, "signed": kpatchtest.Sign(image)} {
		_, got, err := manifest.ReadUpdate(writeFile(t, p, file))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(m, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	other := driver()
	other.Salt = "other"
	_, _, err = manifest.ReadUpdate(writeFile(t, p, other.Image()))
	wantRefusal(t, err, "not the file that the manifest beside it")
	writeFile(t, p, image)
	for _, c := range []struct {
		alter func(*manifest.Manifest)
		want  string
	}{
		{func(m *manifest.Manifest) { m.Release = "6.1.0-50-amd64" }, "says 8139cp for 6.1.0-50-amd64, the module 8139cp for " + kpatchtest.Release},
		{func(m *manifest.Manifest) { m.Units[0].Name = "e1000" }, "says e1000"},
		{func(m *manifest.Manifest) { m.Units[0].Driver.BuildID = kpatchtest.BuildID("x") }, "says 8139cp"},
		{func(m *manifest.Manifest) { *m = *sample() }, "that of a livepatch"},
	} {
		bad, err := manifest.Decode(text)
		if err != nil {
			t.Fatal(err)
		}
		c.alter(bad)
		b, err := manifest.Encode(bad)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, p+manifest.DriverSuffix, b)
		_, _, err = manifest.ReadUpdate(p)
		wantRefusal(t, err, c.want)
	}
	writeFile(t, p+manifest.DriverSuffix, []byte("{}"))
	_, _, err = manifest.ReadUpdate(p)
	wantRefusal(t, err, "schema")
}

func TestNoDriver(t *testing.T) {
	dir := t.TempDir()
	livepatch := kpatchtest.Module(sample())
	_, _, err := manifest.ReadDriver(writeFile(t, filepath.Join(dir, "lp.ko"), livepatch))
	wantRefusal(t, err, "it is a livepatch")
	if _, m, err := manifest.ReadUpdate(filepath.Join(dir, "lp.ko")); err != nil || m.Method != "livepatch" {
		t.Errorf("%v, %v", m, err)
	}
	foreign := kpatchtest.ELF("kpatch_x", kpatchtest.Release, nil)
	_, _, err = manifest.ReadDriver(writeFile(t, filepath.Join(dir, "foreign.ko"), foreign))
	wantRefusal(t, err, "a livepatch that lupatch did not make")
	// Cut off behind the header, and no module at all.
	for name, b := range map[string][]byte{"cut.ko": driver().Image()[:200], "text.ko": []byte("hello")} {
		_, _, err = manifest.ReadUpdate(writeFile(t, filepath.Join(dir, name), b))
		wantRefusal(t, err, name)
	}
	if _, _, err := manifest.ReadUpdate(filepath.Join(dir, "none.ko")); !os.IsNotExist(err) {
		t.Error(err)
	}
}

func TestDriverValidate(t *testing.T) {
	for _, c := range []struct {
		alter func(*manifest.Manifest)
		want  string
	}{
		{func(m *manifest.Manifest) {
			m.Units = append(m.Units, m.Units[0])
			m.Units[1].Name = "8390"
		}, "2 units"},
		{func(m *manifest.Manifest) { m.Units[0].Driver = nil }, "does not go with the method driver"},
		{func(m *manifest.Manifest) { m.Method = "livepatch" }, "does not go with the method livepatch"},
		{func(m *manifest.Manifest) { m.Units[0].Name = "vmlinux" }, "vmlinux is no driver"},
		{func(m *manifest.Manifest) { m.Escapes = []string{"timer"} }, "parts of a livepatch"},
		{func(m *manifest.Manifest) { m.Units[0].Driver.SHA256 = "x" }, "not a SHA-256"},
		{func(m *manifest.Manifest) { m.Units[0].Driver.BuildID = "" }, "not a build id"},
		{func(m *manifest.Manifest) { m.Units[0].BuildID = "zz" }, "not a build id"},
		{func(m *manifest.Manifest) { m.Units[0].Driver.Class = "gpu" }, "not known"},
		{func(m *manifest.Manifest) { m.Units[0].Driver.Devices = []string{"\x1b[2J"} }, "control characters"},
	} {
		m, err := manifest.ForDriver(driver().Image(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		c.alter(m)
		wantRefusal(t, m.Validate(), c.want)
	}
}
