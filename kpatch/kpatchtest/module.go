// SPDX-License-Identifier: Apache-2.0

package kpatchtest

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/lupatch/lupatch/internal/manifest"
)

// Release is the kernel release of a fake host.
const Release = "6.1.0-47-amd64"

// BuildID makes a build id, in hex, that belongs to a name.
func BuildID(name string) string {
	sum := sha1.Sum([]byte(name))
	return hex.EncodeToString(sum[:])
}

// Manifest gives a valid manifest of an update name that takes one unit from
// version 0 to 1 by replacing functions; tests alter it as they need.
func Manifest(name, unit string, functions ...string) *manifest.Manifest {
	m := &manifest.Manifest{
		Schema: manifest.Schema, Name: name, Method: "livepatch", Release: Release,
		Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Source: manifest.Source{
			SHA256: hex.EncodeToString(make([]byte, 32)), Subject: "a fix for " + unit,
			Files: []string{"drivers/x.c"}, Version: "6.1.170-3",
		},
		Tools: manifest.Tools{Lupatch: "test", Compiler: "gcc 12.2.0"},
		Class: manifest.ClassCode,
		Units: []manifest.Unit{{Name: unit, BuildID: BuildID(unit), Gives: 1, Verified: 10}},
	}
	for _, f := range functions {
		m.Units[0].Functions = append(m.Units[0].Functions, manifest.Function{
			Name: f, File: "drivers/x.c", Sympos: 1, OldSize: 64, NewSize: 80, Effect: manifest.EffectNow,
		})
	}
	return m
}

// On puts m on top of other updates: m needs the versions that they give. The
// oldest is first.
func On(m *manifest.Manifest, below ...*manifest.Manifest) *manifest.Manifest {
	for _, b := range below {
		content, err := manifest.EncodeSection(b)
		if err != nil {
			panic(err)
		}
		m.On = append(m.On, manifest.Base{Update: b.Name, BuildID: BuildID(b.Name + "\x00" + string(content))})
		for i := range m.Units {
			u := &m.Units[i]
			for _, have := range b.Units {
				if have.Name == u.Name {
					u.Needs, u.Gives = have.Gives, have.Gives+1
				}
			}
		}
	}
	return m
}

// Module writes a sealed livepatch module that carries m. Its code is empty: it
// has what the module loader and lupatch read, a name, a vermagic, a build id
// and the manifest. It panics on a manifest that is not valid.
func Module(m *manifest.Manifest) []byte { return ModuleWith(m, nil) }

// ModuleWith is Module with a source patch in it, as manifest.EncodePatch packs
// one.
func ModuleWith(m *manifest.Manifest, patch []byte) []byte {
	content, err := manifest.EncodeSection(m)
	if err != nil {
		panic(err)
	}
	secs := sections(m.Name, m.Release, content)
	if patch != nil {
		secs = append(secs, elfSection{manifest.PatchSection, 1, 0, patch})
	}
	file, err := manifest.Seal(writeELF(secs))
	if err != nil {
		panic(err)
	}
	return file
}

// ELF writes a module of the given name and release, with content, if it is not
// nil, in the section .lupatch, unsealed.
func ELF(name, release string, content []byte) []byte {
	return writeELF(sections(name, release, content))
}

func sections(name, release string, content []byte) []elfSection {
	thisModule := make([]byte, 896) // sizeof(struct module) of Debian's 6.1
	copy(thisModule[24:], name)
	secs := []elfSection{
		{".note.gnu.build-id", 7, 2, buildIDNote(BuildID(name + "\x00" + string(content)))},
		{".modinfo", 1, 2, fmt.Appendf(nil, "livepatch=Y\x00name=%s\x00vermagic=%s SMP preempt mod_unload modversions \x00", name, release)},
		{".gnu.linkonce.this_module", 1, 3, thisModule},
	}
	if content != nil {
		secs = append(secs, elfSection{manifest.Section, 1, 0, content})
	}
	return secs
}

// buildIDNote is the content of the note section with a build id.
func buildIDNote(hexID string) []byte {
	id, _ := hex.DecodeString(hexID)
	note := new(bytes.Buffer)
	for _, v := range []uint32{4, uint32(len(id)), 3 /* NT_GNU_BUILD_ID */} {
		binary.Write(note, binary.LittleEndian, v)
	}
	note.WriteString("GNU\x00")
	note.Write(id)
	return note.Bytes()
}

type elfSection struct {
	name  string
	kind  uint32
	flags uint64
	data  []byte
}

// writeELF writes a relocatable x86-64 object of the given sections.
func writeELF(secs []elfSection) []byte {
	names := []byte{0}
	body := new(bytes.Buffer)
	body.Write(make([]byte, 64))
	headers := make([]byte, 64) // the null section
	add := func(s elfSection) {
		for body.Len()%8 != 0 {
			body.WriteByte(0)
		}
		h := new(bytes.Buffer)
		le := binary.LittleEndian
		binary.Write(h, le, [2]uint32{uint32(len(names)), s.kind})
		names = append(append(names, s.name...), 0)
		if s.name == ".shstrtab" {
			s.data = names
		}
		binary.Write(h, le, [4]uint64{s.flags, 0, uint64(body.Len()), uint64(len(s.data))})
		binary.Write(h, le, [2]uint32{})
		binary.Write(h, le, [2]uint64{8, 0})
		headers = append(headers, h.Bytes()...)
		body.Write(s.data)
	}
	for _, s := range secs {
		add(s)
	}
	add(elfSection{name: ".shstrtab", kind: 3})
	for body.Len()%8 != 0 {
		body.WriteByte(0)
	}
	out := body.Bytes()
	le := binary.LittleEndian
	copy(out, "\x7fELF\x02\x01\x01")
	le.PutUint16(out[16:], 1)  // ET_REL
	le.PutUint16(out[18:], 62) // EM_X86_64
	le.PutUint32(out[20:], 1)
	le.PutUint64(out[40:], uint64(len(out)))
	le.PutUint16(out[52:], 64)
	le.PutUint16(out[58:], 64)
	le.PutUint16(out[60:], uint16(len(headers)/64))
	le.PutUint16(out[62:], uint16(len(headers)/64-1))
	return append(out, headers...)
}
