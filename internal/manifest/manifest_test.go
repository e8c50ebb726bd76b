// SPDX-License-Identifier: Apache-2.0

package manifest_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/kpatch/kpatchtest"
)

func sample() *manifest.Manifest {
	m := kpatchtest.Manifest("fix_mtu", "e1000", "e1000_change_mtu", "e1000_up")
	m.Escapes = []string{"timer in e1000_up"}
	m.Review = []string{"locking differs in e1000_change_mtu"}
	m.Units[0].Functions = append(m.Units[0].Functions, manifest.Function{
		Name: "helper", File: "x.c", NewSize: 5, New: true, Effect: manifest.EffectNow})
	m.Units[0].Relocations = []manifest.Relocation{{Object: "vmlinux", Symbol: "printk_deferred", Count: 2}}
	return m
}

// wantRefusal checks that err is a NotAnUpdate whose text has part in it.
func wantRefusal(t *testing.T, err error, part string) {
	t.Helper()
	e, ok := refuse.As(err)
	if !ok || e.ID != refuse.NotAnUpdate {
		t.Fatalf("error is %v, want a refusal %s", err, refuse.NotAnUpdate)
	}
	if !strings.Contains(e.Error(), part) {
		t.Fatalf("refusal %q does not say %q", e, part)
	}
}

func TestRoundTrip(t *testing.T) {
	want := sample()
	data, err := manifest.Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := manifest.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	file := kpatchtest.Module(want)
	for name, f := range map[string][]byte{"plain": file, "signed": kpatchtest.Sign(file)} {
		got, err := manifest.FromModule(f)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("%s: %s", name, d)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		alter func(m *manifest.Manifest)
		part  string
	}{
		"name":            {func(m *manifest.Manifest) { m.Name = "../etc" }, "name"},
		"long name":       {func(m *manifest.Manifest) { m.Name = strings.Repeat("a", manifest.MaxName+1) }, "name"},
		"generation name": {func(m *manifest.Manifest) { m.Name = "fix__2" }, "name"},
		"method":          {func(m *manifest.Manifest) { m.Method = "prayer" }, "method"},
		"release":         {func(m *manifest.Manifest) { m.Release = "6.1 amd64" }, "release"},
		"hash":            {func(m *manifest.Manifest) { m.Source.SHA256 = "00" }, "SHA-256"},
		"class":           {func(m *manifest.Manifest) { m.Class = "" }, "class"},
		"version of none": {func(m *manifest.Manifest) { m.Units[0].Needs, m.Units[0].Gives = 1, 2 }, "which updates make that"},
		"on itself":       {func(m *manifest.Manifest) { m.On = []manifest.Base{{Update: m.Name, BuildID: "abcdef00"}} }, "the update itself"},
		"on twice": {func(m *manifest.Manifest) {
			m.On = []manifest.Base{{Update: "a", BuildID: "abcdef00"}, {Update: "b", BuildID: "abcdef00"}}
		}, "twice"},
		"on no build":    {func(m *manifest.Manifest) { m.On = []manifest.Base{{Update: "a"}} }, "cannot be an update"},
		"cumulative":     {func(m *manifest.Manifest) { m.Cumulative = true }, "stands on no update"},
		"no units":       {func(m *manifest.Manifest) { m.Units = nil }, "units"},
		"unit twice":     {func(m *manifest.Manifest) { m.Units = append(m.Units, m.Units[0]) }, "twice"},
		"unit name":      {func(m *manifest.Manifest) { m.Units[0].Name = "a/b" }, "unit's name"},
		"build id":       {func(m *manifest.Manifest) { m.Units[0].BuildID = "abc" }, "build id"},
		"versions":       {func(m *manifest.Manifest) { m.Units[0].Gives = 0 }, "version"},
		"function":       {func(m *manifest.Manifest) { m.Units[0].Functions[0].Name = "a b" }, "symbol"},
		"function twice": {func(m *manifest.Manifest) { m.Units[0].Functions[1] = m.Units[0].Functions[0] }, "twice"},
		"new with size":  {func(m *manifest.Manifest) { m.Units[0].Functions[0].New = true }, "bytes before"},
		"digest":         {func(m *manifest.Manifest) { m.Units[0].Functions[0].Digest = "xyz" }, "digest"},
		"effect":         {func(m *manifest.Manifest) { m.Units[0].Functions[0].Effect = "soon" }, "effect"},
		"relocation":     {func(m *manifest.Manifest) { m.Units[0].Relocations[0].Count = 0 }, "relocations"},
		"nothing":        {func(m *manifest.Manifest) { m.Units[0].Functions = m.Units[0].Functions[2:] }, "replaces no function"},
		"terminal":       {func(m *manifest.Manifest) { m.Review = []string{"\x1b[2J"} }, "control characters"},
		"newer":          {func(m *manifest.Manifest) { m.Schema = manifest.Schema + 1 }, "newer lupatch"},
		"no schema":      {func(m *manifest.Manifest) { m.Schema = 0 }, "schema"},
	} {
		t.Run(name, func(t *testing.T) {
			m := sample()
			c.alter(m)
			data, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			_, err = manifest.Decode(data)
			wantRefusal(t, err, c.part)
			if _, err := manifest.Encode(m); err == nil {
				t.Error("Encode writes what Decode refuses")
			}
		})
	}
	good, _ := manifest.Encode(sample())
	for name, c := range map[string]struct{ data, part string }{
		"empty":         {"", "cannot be read"},
		"not json":      {"ELF", "cannot be read"},
		"trailing":      {string(good) + "{}", "after"},
		"unknown field": {`{"schema":1,"frobnicate":2}`, "frobnicate"},
		"newer field":   {`{"schema":7,"frobnicate":2}`, "newer lupatch"},
		"huge":          {strings.Repeat(" ", manifest.MaxSize+1), "limit"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := manifest.Decode([]byte(c.data))
			wantRefusal(t, err, c.part)
		})
	}
}

// Every byte of a module is covered: no truncation and no flipped bit passes.
func TestDamage(t *testing.T) {
	file := kpatchtest.Module(sample())
	for n := range file {
		_, err := manifest.FromModule(file[:n])
		wantRefusal(t, err, "")
	}
	for n := range file {
		for _, bit := range []byte{1, 0x80} {
			damaged := bytes.Clone(file)
			damaged[n] ^= bit
			_, err := manifest.FromModule(damaged)
			wantRefusal(t, err, "")
		}
	}
	_, err := manifest.FromModule(append(bytes.Clone(file), 0))
	wantRefusal(t, err, "altered")
	_, err = manifest.FromModule(file[:len(file)-1])
	wantRefusal(t, err, "truncated")
}

func TestNotOurs(t *testing.T) {
	content, _ := manifest.EncodeSection(sample())
	unsealed := kpatchtest.ELF("fix_mtu", kpatchtest.Release, content)
	for name, c := range map[string]struct {
		file []byte
		part string
	}{
		"text":          {[]byte("#!/bin/sh\nexit 0\n"), "not an ELF file"},
		"other module":  {kpatchtest.ELF("snd", kpatchtest.Release, nil), "not made by lupatch"},
		"unsealed":      {unsealed, "never finished"},
		"empty section": {kpatchtest.ELF("x", kpatchtest.Release, []byte{}), "0 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := manifest.FromModule(c.file)
			wantRefusal(t, err, c.part)
		})
	}
	if _, err := manifest.Seal(kpatchtest.Sign(unsealed)); err == nil {
		t.Error("a signed module was sealed")
	}
}
