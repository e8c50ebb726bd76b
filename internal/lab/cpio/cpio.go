// SPDX-License-Identifier: Apache-2.0

// Package cpio writes archives of the "newc" format, the only one that Linux
// takes as an initramfs (Documentation/driver-api/early-userspace/buffer-format.rst).
package cpio

import (
	"fmt"
	"io"
	"strings"
)

// Types of files, as in st_mode.
const (
	TypeFIFO    = 0o010000
	TypeChar    = 0o020000
	TypeDir     = 0o040000
	TypeBlock   = 0o060000
	TypeRegular = 0o100000
	TypeSymlink = 0o120000
	typeMask    = 0o170000
	permMask    = 0o7777
)

// trailer ends an archive.
const trailer = "TRAILER!!!"

// maxSize is what an eight-digit hexadecimal field can say.
const maxSize = 1<<32 - 1

// Writer writes one archive. All files belong to root, and times are zero, so
// that the same content gives the same bytes. Errors stick: the first one is
// returned by every later call.
type Writer struct {
	w    io.Writer
	off  int64
	ino  uint32
	seen map[string]bool
	err  error
}

// NewWriter starts an archive on w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w, seen: map[string]bool{"": true}} }

// Dir adds a folder and those above it that are not there yet. A folder that is
// there already is left as it is.
func (w *Writer) Dir(name string, perm uint32) error {
	name = clean(name)
	if w.seen[name] {
		return w.err
	}
	return w.entry(name, TypeDir|perm&permMask, nil, 0, 0)
}

// File adds a regular file.
func (w *Writer) File(name string, perm uint32, data []byte) error {
	return w.entry(clean(name), TypeRegular|perm&permMask, data, 0, 0)
}

// Symlink adds a symbolic link.
func (w *Writer) Symlink(name, target string) error {
	return w.entry(clean(name), TypeSymlink|0o777, []byte(target), 0, 0)
}

// Device adds a device file; kind is TypeChar or TypeBlock.
func (w *Writer) Device(name string, kind, perm, major, minor uint32) error {
	return w.entry(clean(name), kind|perm&permMask, nil, major, minor)
}

// Has says whether a name has been added.
func (w *Writer) Has(name string) bool { return w.seen[clean(name)] }

// Close ends the archive. It does not close the underlying writer.
func (w *Writer) Close() error {
	w.header(trailer, 0, 0, 1, 0, 0, 0)
	return w.err
}

// clean makes a name relative: the kernel unpacks into the root anyway.
func clean(name string) string { return strings.Trim(name, "/") }

func (w *Writer) entry(name string, mode uint32, data []byte, major, minor uint32) error {
	if w.err != nil {
		return w.err
	}
	switch {
	case name == trailer, strings.ContainsRune(name, 0), name == "", strings.Contains("/"+name+"/", "/../"):
		w.err = fmt.Errorf("adding %q to the archive: not a usable name", name)
		return w.err
	case w.seen[name]:
		w.err = fmt.Errorf("adding %q to the archive: it is there already", name)
		return w.err
	case int64(len(data)) > maxSize:
		w.err = fmt.Errorf("adding %q to the archive: %d bytes are too many for the format", name, len(data))
		return w.err
	}
	// The kernel does not make missing folders.
	if i := strings.LastIndexByte(name, '/'); i > 0 {
		if err := w.Dir(name[:i], 0o755); err != nil {
			return err
		}
	}
	w.seen[name] = true
	w.ino++
	links := uint32(1)
	if mode&typeMask == TypeDir {
		links = 2
	}
	w.header(name, w.ino, mode, links, uint32(len(data)), major, minor)
	w.write(data)
	w.pad()
	return w.err
}

func (w *Writer) header(name string, ino, mode, links, size, major, minor uint32) {
	w.write(fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		ino, mode, 0, 0, links, 0, size, 0, 0, major, minor, len(name)+1, 0, name))
	w.pad()
}

func (w *Writer) write(b []byte) {
	if w.err != nil {
		return
	}
	n, err := w.w.Write(b)
	w.off += int64(n)
	w.err = err
}

func (w *Writer) pad() {
	if rest := w.off % 4; rest != 0 {
		w.write(make([]byte, 4-rest))
	}
}
