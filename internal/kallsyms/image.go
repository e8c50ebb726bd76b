// SPDX-License-Identifier: Apache-2.0

package kallsyms

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
)

// MaxImage bounds the size of an image and of what comes out of it. Kernels
// with every debugging option reach a few hundred megabytes with DWARF.
const MaxImage = 2 << 30

// Image is a kernel image: the vmlinux in it, readable by virtual address.
type Image struct {
	// Raw is the file vmlinux. For a vmlinuz it may be followed by the boot
	// code's relocation list.
	Raw []byte
	// File begins with Raw; empty if it is in no file.
	File string
	// ELF is Raw, opened.
	ELF *elf.File
	// Compression is what the payload of a vmlinuz was packed with ("xz",
	// "zstd", …); "none" for a plain vmlinux.
	Compression string
	// BuildID is the GNU build id in hexadecimal; empty if it has none.
	BuildID string

	once sync.Once
	tab  *Table
	err  error
}

// ReadImage reads a bzImage (vmlinuz) or a plain ELF vmlinux of size bytes.
func ReadImage(r io.ReaderAt, size int64) (*Image, error) {
	if size <= 0 || size > MaxImage {
		return nil, fmt.Errorf("reading kernel image: a size of %d bytes is not plausible", size)
	}
	b := make([]byte, size)
	if _, err := r.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading kernel image: %w", err)
	}
	raw, how, err := unpack(b)
	if err != nil {
		return nil, fmt.Errorf("reading kernel image: %w", err)
	}
	return newImage(raw, how)
}

func newImage(raw []byte, how string) (*Image, error) {
	f, err := elf.NewFile(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("reading vmlinux: %w", err)
	}
	if f.Class != elf.ELFCLASS64 || f.Data != elf.ELFDATA2LSB || f.Machine != elf.EM_X86_64 {
		return nil, fmt.Errorf("reading vmlinux: %v %v %v is not an x86-64 kernel", f.Class, f.Data, f.Machine)
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return nil, fmt.Errorf("reading vmlinux: %v is not a linked kernel", f.Type)
	}
	im := &Image{Raw: raw, ELF: f, Compression: how}
	im.BuildID = im.buildID()
	return im, nil
}

// unpack gives the vmlinux inside b and what it was packed with.
func unpack(b []byte) (raw []byte, how string, err error) {
	if bytes.HasPrefix(b, []byte(elf.ELFMAG)) {
		return b, "none", nil
	}
	payload, err := bzPayload(b)
	if err != nil {
		return nil, "", err
	}
	return decompress(payload)
}

// Offsets in the boot header, Documentation/arch/x86/boot.rst ("The Real-Mode
// Kernel Header").
const (
	bootSetupSects    = 0x1f1
	bootMagic         = 0x202 // "HdrS"
	bootVersion       = 0x206
	bootPayloadOffset = 0x248 // from protocol 2.08 on
	bootPayloadLength = 0x24c
	bootHeaderEnd     = 0x250

	bootProtocolPayload = 0x0208
	bootDefaultSects    = 4 // what 0 means
	sector              = 512
)

// bzPayload finds the compressed kernel in a bzImage.
func bzPayload(b []byte) ([]byte, error) {
	if len(b) < bootHeaderEnd || string(b[bootMagic:bootMagic+4]) != "HdrS" {
		return nil, errors.New("neither an ELF file nor a bzImage")
	}
	if v := binary.LittleEndian.Uint16(b[bootVersion:]); v < bootProtocolPayload {
		return nil, fmt.Errorf("boot protocol %d.%02d names no payload (2.08 does)", v>>8, v&0xff)
	}
	sects := uint64(b[bootSetupSects])
	if sects == 0 {
		sects = bootDefaultSects
	}
	off := (sects+1)*sector + uint64(binary.LittleEndian.Uint32(b[bootPayloadOffset:]))
	n := uint64(binary.LittleEndian.Uint32(b[bootPayloadLength:]))
	if n == 0 || off+n > uint64(len(b)) {
		return nil, fmt.Errorf("the payload (%d bytes at %#x) is not inside the %d bytes of the file", n, off, len(b))
	}
	return b[off : off+n], nil
}

// ReadAt copies n bytes from the virtual address addr, as linked. Memory that
// the image only reserves (.bss) reads as zeros.
func (im *Image) ReadAt(addr uint64, n int) ([]byte, error) {
	if n < 0 || n > MaxImage {
		return nil, fmt.Errorf("reading %#x of vmlinux: a length of %d bytes is not plausible", addr, n)
	}
	for _, p := range im.ELF.Progs {
		if p.Type != elf.PT_LOAD || addr < p.Vaddr || addr-p.Vaddr >= p.Memsz || uint64(n) > p.Memsz-(addr-p.Vaddr) {
			continue
		}
		out := make([]byte, n)
		o := addr - p.Vaddr
		if o < p.Filesz {
			end := min(o+uint64(n), p.Filesz)
			if p.Off > uint64(len(im.Raw)) || end > uint64(len(im.Raw))-p.Off {
				return nil, fmt.Errorf("reading %#x of vmlinux: its segment is cut off", addr)
			}
			copy(out, im.Raw[p.Off+o:p.Off+end])
		}
		return out, nil
	}
	return nil, fmt.Errorf("reading %#x of vmlinux: no %d bytes are mapped there", addr, n)
}

// Banner is the line "Linux version …" that the kernel prints at boot: release,
// builder and compiler.
func (im *Image) Banner() (string, error) {
	t, err := im.Symbols()
	if err != nil {
		return "", err
	}
	s := t.Lookup("linux_banner")
	if len(s) != 1 {
		return "", errors.New("reading the banner of vmlinux: no single linux_banner")
	}
	const longest = 1024
	for n := longest; n >= 64; n /= 2 {
		b, err := im.ReadAt(s[0].Addr, n)
		if err != nil {
			continue
		}
		if i := bytes.IndexByte(b, 0); i > 0 {
			return string(bytes.TrimSpace(b[:i])), nil
		}
	}
	return "", errors.New("reading the banner of vmlinux: linux_banner is not a text")
}

// noteGNUBuildID is NT_GNU_BUILD_ID of elf.h, notePhys32Entry XEN_ELFNOTE_PHYS32_ENTRY
// of Xen's elfnote.h, by which QEMU knows where to enter an image.
const (
	noteGNUBuildID  = 3
	notePhys32Entry = 18
)

func (im *Image) buildID() string { return hex.EncodeToString(im.note("GNU", noteGNUBuildID)) }

// Bootable says that QEMU can boot the vmlinux itself: it has the entry of the PVH
// protocol (CONFIG_PVH, since 5.0).
func (im *Image) Bootable() bool { return im.note("Xen", notePhys32Entry) != nil }

// note is the content of a note; nil if there is none.
func (im *Image) note(owner string, typ uint32) []byte {
	for _, s := range im.ELF.Sections {
		if s.Type != elf.SHT_NOTE {
			continue
		}
		b, ok := im.section(s)
		for ok && len(b) >= 12 {
			nn, nd := uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[4:]))
			dOff := 12 + (nn+3)&^3
			end := dOff + (nd+3)&^3
			if dOff+nd > uint64(len(b)) {
				break
			}
			if binary.LittleEndian.Uint32(b[8:]) == typ && string(b[12:12+nn]) == owner+"\x00" {
				return b[dOff : dOff+nd]
			}
			b = b[min(end, uint64(len(b))):]
		}
	}
	return nil
}

// section gives the bytes of a section without copying them.
func (im *Image) section(s *elf.Section) ([]byte, bool) {
	if s.Type == elf.SHT_NOBITS || s.Offset > uint64(len(im.Raw)) || s.FileSize > uint64(len(im.Raw))-s.Offset {
		return nil, false
	}
	return im.Raw[s.Offset : s.Offset+s.FileSize], true
}

// Symbols decodes the image's kallsyms. The result is kept. The error is
// ErrNoTables if there are none that pass every check.
func (im *Image) Symbols() (*Table, error) {
	im.once.Do(func() { im.tab, im.err = im.decode() })
	return im.tab, im.err
}
