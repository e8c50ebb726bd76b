// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/lupatch/lupatch/internal/refuse"
)

// PatchSection is the ELF section that carries the source patch an update was
// built from, compressed by gzip. It is not loaded. Who builds on top of the
// update needs the source as it is with it.
const PatchSection = ".lupatch.patch"

// MaxPatch bounds a source patch in bytes; the largest kernel release diffs are
// some tens of megabytes.
const MaxPatch = 64 << 20

// EncodePatch writes a source patch as the content of PatchSection. The same
// patch always gives the same bytes.
func EncodePatch(patch []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(patch); err != nil {
		return nil, fmt.Errorf("compressing the patch: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("compressing the patch: %w", err)
	}
	return b.Bytes(), nil
}

// Patch gives the source patch out of an update file, whose manifest is m. It is
// the one that m names by its SHA-256. Every error is a refuse.NotAnUpdate.
func Patch(file []byte, m *Manifest) (patch []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			patch, err = nil, refuse.New(refuse.NotAnUpdate, m.Name, "its ELF headers make no sense (%v)", r)
		}
	}()
	body := Unsigned(file)
	f, err := elf.NewFile(bytes.NewReader(body))
	if err != nil {
		return nil, refuse.New(refuse.NotAnUpdate, m.Name, "its ELF headers cannot be read: %s", err)
	}
	defer f.Close()
	s := f.Section(PatchSection)
	if s == nil {
		e := refuse.New(refuse.NotAnUpdate, m.Name, "it does not carry the patch that it was built from (section %s)", PatchSection)
		e.Remedy = "build it again with this lupatch"
		return nil, e
	}
	if n := uint64(len(body)); s.Type != elf.SHT_PROGBITS || s.Flags&elf.SHF_COMPRESSED != 0 || s.Offset > n || s.FileSize > n-s.Offset {
		return nil, refuse.New(refuse.NotAnUpdate, m.Name, "its section %s is damaged", PatchSection)
	}
	r, err := gzip.NewReader(bytes.NewReader(body[s.Offset : s.Offset+s.FileSize]))
	if err != nil {
		return nil, refuse.New(refuse.NotAnUpdate, m.Name, "the patch in it cannot be unpacked: %s", err)
	}
	patch, err = io.ReadAll(io.LimitReader(r, MaxPatch+1))
	if err != nil {
		return nil, refuse.New(refuse.NotAnUpdate, m.Name, "the patch in it cannot be unpacked: %s", err)
	}
	if len(patch) > MaxPatch {
		return nil, refuse.New(refuse.NotAnUpdate, m.Name, "the patch in it is larger than %d bytes", MaxPatch)
	}
	if sum := sha256.Sum256(patch); hex.EncodeToString(sum[:]) != m.Source.SHA256 {
		return nil, refuse.New(refuse.NotAnUpdate, m.Name, "the patch in it is not the one that its manifest names")
	}
	return patch, nil
}
