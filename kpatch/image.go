// SPDX-License-Identifier: Apache-2.0

package kpatch

import (
	"bytes"
	"debug/elf"
	"fmt"
	"regexp"

	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
)

// The name of a module lies in its struct module (include/linux/module.h),
// behind the state and the list head, in all 64-bit kernels.
const (
	thisModule = ".gnu.linkonce.this_module"
	nameOffset = 24
	nameSize   = 56 // MODULE_NAME_LEN: 64 - sizeof(unsigned long)
)

var reModule = regexp.MustCompile(`^[A-Za-z0-9_]{1,55}$`)

// ModuleName is the name under which the kernel would load image.
func ModuleName(image []byte) (string, error) {
	off, err := nameField(image)
	if err != nil {
		return "", err
	}
	name, _, ok := bytes.Cut(image[off:off+nameSize], []byte{0})
	if !ok || !reModule.Match(name) {
		return "", refuse.New(refuse.NotAnUpdate, "", "its module has no proper name")
	}
	return string(name), nil
}

// ImageBuildID is the build id, in hex, of a module file; empty without one.
func ImageBuildID(image []byte) (string, error) {
	off, size, err := findSection(image, ".note.gnu.build-id")
	if err != nil || size == 0 {
		return "", err
	}
	return NoteBuildID(image[off : off+size]), nil
}

// Renamed gives a copy of a module file that the kernel loads as name. An update
// whose disabled copy must stay in memory is applied again this way. A module
// signature covers the name, so that the copy has none: where the kernel takes
// only signed modules (Enforces) it takes no renamed one.
func Renamed(image []byte, name string) ([]byte, error) {
	if !reModule.MatchString(name) {
		return nil, fmt.Errorf("renaming a module: %q cannot be a module's name", name)
	}
	image = manifest.Unsigned(image)
	if _, err := ModuleName(image); err != nil {
		return nil, err
	}
	off, err := nameField(image)
	if err != nil {
		return nil, err
	}
	out := bytes.Clone(image)
	field := out[off : off+nameSize]
	clear(field)
	copy(field, name)
	return out, nil
}

func nameField(image []byte) (uint64, error) {
	off, size, err := findSection(image, thisModule)
	if err != nil {
		return 0, err
	}
	if size < nameOffset+nameSize {
		return 0, refuse.New(refuse.NotAnUpdate, "", "it is not a kernel module: no section %s", thisModule)
	}
	return off + nameOffset, nil
}

// findSection gives the place of a section with content in a module file; size
// is 0 if there is none. It never panics: debug/elf's own checks are not relied
// on.
func findSection(image []byte, name string) (off, size uint64, err error) {
	defer func() {
		if r := recover(); r != nil {
			off, size, err = 0, 0, refuse.New(refuse.NotAnUpdate, "", "its ELF headers make no sense (%v)", r)
		}
	}()
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, 0, refuse.New(refuse.NotAnUpdate, "", "its ELF headers cannot be read: %s", err)
	}
	defer f.Close()
	s := f.Section(name)
	if s == nil || s.Type == elf.SHT_NOBITS || s.Flags&elf.SHF_COMPRESSED != 0 {
		return 0, 0, nil
	}
	if n := uint64(len(image)); s.Offset > n || s.FileSize > n-s.Offset {
		return 0, 0, refuse.New(refuse.NotAnUpdate, "", "it was truncated: the section %s ends beyond the file", name)
	}
	return s.Offset, s.FileSize, nil
}
