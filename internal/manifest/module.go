// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"

	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/sign"
)

// MaxModule bounds a module file that is read into memory. The largest driver
// of a distribution has about 30 MB with debug information.
const MaxModule = 256 << 20

// Signed says whether a module signature is appended to file.
func Signed(file []byte) bool { return sign.Appended(file) }

// Unsigned gives the part of a module file before an appended signature; the
// whole file if there is none or if what is there is not a signature.
func Unsigned(file []byte) []byte {
	body, _, err := sign.Split(file)
	if err != nil {
		return file
	}
	return body
}

// FromModule reads and checks the manifest of a livepatch module made by
// lupatch, and that the file is unaltered. Every error is a
// refuse.NotAnUpdate. It never panics, whatever the bytes are.
func FromModule(file []byte) (*Manifest, error) {
	if err := Verify(file); err != nil {
		return nil, err
	}
	s, err := findSection(Unsigned(file))
	if err != nil {
		return nil, err
	}
	return Decode(file[s.off : s.digest-1])
}

// ReadModule reads the module file at path whole and its manifest. An error is
// that of the file system, or a refuse.NotAnUpdate that has path as its place.
func ReadModule(path string) (file []byte, m *Manifest, err error) {
	if file, err = readFile(path); err != nil {
		return nil, nil, at(err, path)
	}
	if m, err = FromModule(file); err != nil {
		return nil, nil, at(err, path)
	}
	return file, m, nil
}

// readFile reads a module file whole.
func readFile(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, refuse.New(refuse.NotAnUpdate, "", "it is not a regular file")
	}
	if st.Size() > MaxModule {
		return nil, refuse.New(refuse.NotAnUpdate, "", "it has %d bytes, the limit is %d", st.Size(), MaxModule)
	}
	return os.ReadFile(path)
}

// at puts a file's path into a refusal as its place.
func at(err error, path string) error {
	if e, ok := refuse.As(err); ok {
		if e.Where != "" {
			e.Detail = e.Where + ": " + e.Detail
		}
		e.Where = path
	}
	return err
}

// section is where the manifest lies in a file: JSON from off, a newline, and
// digestLen bytes at digest.
type section struct{ off, digest uint64 }

// findSection finds the manifest's section in a module without a signature.
// debug/elf trusts some fields of a file; what it hands out is checked against
// the file here, and what it may still stumble over is caught at this border.
func findSection(body []byte) (s section, err error) {
	defer func() {
		if r := recover(); r != nil {
			s, err = section{}, refuse.New(refuse.NotAnUpdate, "", "its ELF headers make no sense (%v)", r)
		}
	}()
	if err := checkHeader(body); err != nil {
		return section{}, err
	}
	f, err := elf.NewFile(bytes.NewReader(body))
	if err != nil {
		return section{}, refuse.New(refuse.NotAnUpdate, "", "its ELF headers cannot be read: %s", err)
	}
	defer f.Close()
	var found *elf.Section
	for _, sec := range f.Sections {
		if sec.Name != Section {
			continue
		}
		if found != nil {
			return section{}, refuse.New(refuse.NotAnUpdate, "", "it has two sections %s", Section)
		}
		found = sec
	}
	if found == nil {
		return section{}, refuse.New(refuse.NotAnUpdate, "", "it is a module without a section %s: not made by lupatch", Section)
	}
	if found.Type != elf.SHT_PROGBITS || found.Flags&(elf.SHF_COMPRESSED|elf.SHF_ALLOC) != 0 {
		return section{}, refuse.New(refuse.NotAnUpdate, "", "its section %s is of the wrong kind", Section)
	}
	n := uint64(len(body))
	if found.Offset > n || found.FileSize > n-found.Offset {
		return section{}, refuse.New(refuse.NotAnUpdate, "", "it was truncated: the section %s ends beyond the file", Section)
	}
	if found.FileSize < digestLen+2 || found.FileSize > MaxSize+digestLen {
		return section{}, refuse.New(refuse.NotAnUpdate, "", "its section %s has %d bytes, which cannot be", Section, found.FileSize)
	}
	s = section{off: found.Offset, digest: found.Offset + found.FileSize - digestLen}
	if body[s.digest-1] != '\n' {
		return section{}, refuse.New(refuse.NotAnUpdate, "", "its section %s has no digest", Section)
	}
	return s, nil
}

// checkHeader checks what a truncated file gets wrong first, so that the
// message can say so.
func checkHeader(body []byte) error {
	const ehdr, shdr = 64, 64 // sizes of Elf64_Ehdr and Elf64_Shdr
	if len(body) < 4 || string(body[:4]) != elf.ELFMAG {
		return refuse.New(refuse.NotAnUpdate, "", "it is not an ELF file")
	}
	if len(body) < ehdr {
		return refuse.New(refuse.NotAnUpdate, "", "it was truncated: %d bytes are less than an ELF header", len(body))
	}
	if elf.Class(body[4]) != elf.ELFCLASS64 || elf.Data(body[5]) != elf.ELFDATA2LSB {
		return refuse.New(refuse.NotAnUpdate, "", "it is not a 64-bit little-endian ELF file")
	}
	le := binary.LittleEndian
	if t := elf.Type(le.Uint16(body[16:])); t != elf.ET_REL {
		return refuse.New(refuse.NotAnUpdate, "", "it is not a module (ELF type %s)", t)
	}
	off, size, num := le.Uint64(body[40:]), uint64(le.Uint16(body[58:])), uint64(le.Uint16(body[60:]))
	if size != shdr || num == 0 {
		return refuse.New(refuse.NotAnUpdate, "", "its ELF header was altered: %d section headers of %d bytes", num, size)
	}
	if off > uint64(len(body)) || num*shdr > uint64(len(body))-off {
		return refuse.New(refuse.NotAnUpdate, "", "it was truncated or altered: it has %d bytes, its section headers end at %s", len(body), end(off, num*shdr))
	}
	return nil
}

func end(off, n uint64) string {
	if off+n < off {
		return "an impossible place"
	}
	return fmt.Sprint(off + n)
}
