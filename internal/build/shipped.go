// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/cilium/ebpf/btf"
	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/kallsyms"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/patchgen"
)

// structSizes reads the sizes of the structures in special sections out of
// the image's BTF. One that the kernel does not have is left out.
func structSizes(im *kallsyms.Image) (patchgen.Sizes, error) {
	section := im.ELF.Section(".BTF")
	if section == nil {
		return nil, refuse.New(refuse.SourceUnavailable, "BTF", "the kernel image carries no type information (CONFIG_DEBUG_INFO_BTF)")
	}
	blob, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("reading the BTF of the kernel image: %w", err)
	}
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(blob))
	if err != nil {
		return nil, fmt.Errorf("reading the BTF of the kernel image: %w", err)
	}
	sizes := patchgen.Sizes{}
	for name := range patchgen.DefaultSizes() {
		var s *btf.Struct
		switch err := spec.TypeByName(name, &s); {
		case errors.Is(err, btf.ErrNotFound):
		case err != nil:
			return nil, fmt.Errorf("reading struct %s of the kernel image: %w", name, err)
		default:
			sizes[name] = uint64(s.Size)
		}
	}
	return sizes, nil
}

// gcc matches the compiler in the line a kernel prints at boot.
var gccVersion = regexp.MustCompile(`\(([^()]*gcc[^()]*(?:\([^()]*\))?[^,]*),`)

// imageCompiler gives the image's compiler as an object's .comment would say
// it, or "" if the banner has another form.
func imageCompiler(im *kallsyms.Image) string {
	banner, err := im.Banner()
	if err != nil {
		return ""
	}
	m := gccVersion.FindStringSubmatch(banner)
	if m == nil {
		return ""
	}
	// "gcc-12 (Debian 12.2.0-14) 12.2.0" stands for "GCC: (Debian …) 12.2.0".
	_, rest, ok := strings.Cut(m[1], " ")
	if !ok {
		return ""
	}
	return "GCC: " + rest
}

// ntGNUBuildID is NT_GNU_BUILD_ID of elf.h.
const ntGNUBuildID = 3

// buildID reads a module's build id, in hex; "" if it has none.
func buildID(f *elfobj.File) string {
	s := f.Section(".note.gnu.build-id")
	if s == nil || len(s.Data) < 16 {
		return ""
	}
	nameLen, descLen := binary.LittleEndian.Uint32(s.Data), binary.LittleEndian.Uint32(s.Data[4:])
	if typ := binary.LittleEndian.Uint32(s.Data[8:]); typ != ntGNUBuildID {
		return ""
	}
	from := 12 + (uint64(nameLen)+3)&^3
	if to := from + uint64(descLen); to <= uint64(len(s.Data)) {
		return hex.EncodeToString(s.Data[from:to])
	}
	return ""
}
