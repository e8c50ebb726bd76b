// SPDX-License-Identifier: Apache-2.0

// Package kmodule reads what kernel module files say about themselves and puts
// them into the order in which they have to be loaded, without depmod.
package kmodule

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Info is the .modinfo section of a module (include/linux/module.h, MODULE_INFO).
type Info struct {
	// Name is how the kernel calls the module: with underscores only.
	Name string
	// Depends are the modules whose symbols it uses, as modpost found them.
	Depends []string
	// Pre and Post are the softdep modules to be loaded before and after it, if
	// they can be.
	Pre, Post []string
	// Aliases are the patterns under which it is asked for.
	Aliases []string
	// Vermagic is the kernel release and options it was built for.
	Vermagic string
	// Version and SrcVersion are what its authors and its sources' checksum say;
	// mostly empty.
	Version, SrcVersion string
	// Params are its parameters, by name.
	Params []string
	// Firmware are files that it may ask for, relative to /lib/firmware.
	Firmware []string
	// Livepatch is set if it declares itself one.
	Livepatch bool
}

// ErrNotModule says that a file is not a kernel module.
var ErrNotModule = errors.New("not a kernel module")

// CanonicalName spells a module's name as the kernel does.
func CanonicalName(name string) string { return strings.ReplaceAll(name, "-", "_") }

// ParseInfo reads the information of an uncompressed module. It returns an error
// that wraps ErrNotModule for anything else.
func ParseInfo(image []byte) (info *Info, err error) {
	return parseInfo(bytes.NewReader(image), uint64(len(image)))
}

func parseInfo(file io.ReaderAt, size uint64) (info *Info, err error) {
	// debug/elf does not promise to survive every damaged file.
	defer func() {
		if p := recover(); p != nil {
			info, err = nil, fmt.Errorf("reading ELF: %v: %w", p, ErrNotModule)
		}
	}()
	f, err := elf.NewFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading ELF: %w: %w", err, ErrNotModule)
	}
	if f.Type != elf.ET_REL {
		return nil, fmt.Errorf("reading ELF: type %v instead of ET_REL: %w", f.Type, ErrNotModule)
	}
	sec := f.Section(".modinfo")
	if sec == nil {
		return nil, fmt.Errorf("looking for .modinfo: there is none: %w", ErrNotModule)
	}
	if sec.Type == elf.SHT_NOBITS || sec.Size > size {
		return nil, fmt.Errorf("reading .modinfo: impossible size %d: %w", sec.Size, ErrNotModule)
	}
	data, err := sec.Data()
	if err != nil {
		return nil, fmt.Errorf("reading .modinfo: %w: %w", err, ErrNotModule)
	}
	return parseModinfo(data), nil
}

// parseModinfo reads NUL-separated key=value strings.
func parseModinfo(data []byte) *Info {
	info := &Info{}
	for _, entry := range strings.Split(string(data), "\x00") {
		key, value, ok := strings.Cut(entry, "=")
		if !ok {
			continue
		}
		switch key {
		case "name":
			info.Name = CanonicalName(value)
		case "depends":
			for _, d := range strings.Split(value, ",") {
				if d != "" {
					info.Depends = append(info.Depends, CanonicalName(d))
				}
			}
		case "softdep":
			info.softdep(value)
		case "alias":
			info.Aliases = append(info.Aliases, value)
		case "vermagic":
			info.Vermagic = value
		case "version":
			info.Version = value
		case "srcversion":
			info.SrcVersion = value
		case "firmware":
			info.Firmware = append(info.Firmware, value)
		case "livepatch":
			info.Livepatch = true
		case "parmtype":
			name, _, _ := strings.Cut(value, ":")
			info.Params = append(info.Params, name)
		}
	}
	return info
}

// softdep reads "pre: a b post: c".
func (i *Info) softdep(value string) {
	list := &i.Pre
	for _, w := range strings.Fields(value) {
		switch w {
		case "pre:":
			list = &i.Pre
		case "post:":
			list = &i.Post
		default:
			*list = append(*list, CanonicalName(w))
		}
	}
}
