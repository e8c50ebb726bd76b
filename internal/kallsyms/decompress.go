// SPDX-License-Identifier: Apache-2.0

package kallsyms

import (
	"bytes"
	"compress/bzip2"
	"debug/elf"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz/lzma"
)

// format is one way to pack a kernel (CONFIG_KERNEL_*).
type format struct {
	name  string
	magic string
	open  func(io.Reader) (io.Reader, error)
}

// formats in the order of scripts/extract-vmlinux. The kernel appends the
// unpacked size (4 bytes) to all but gzip, so that a decoder may meet trailing
// bytes after the end of its stream.
var formats = []format{
	{"gzip", "\x1f\x8b", func(r io.Reader) (io.Reader, error) {
		z, err := gzip.NewReader(r)
		if err == nil {
			z.Multistream(false)
		}
		return z, err
	}},
	{"xz", "\xfd7zXZ\x00", func(r io.Reader) (io.Reader, error) {
		// scripts/xz_wrap.sh packs with the x86 branch filter and a
		// dictionary of 32 MiB (128 MiB since 6.11).
		z, err := xz.NewReader(r, 256<<20)
		if err == nil {
			z.Multistream(false)
		}
		return z, err
	}},
	{"bzip2", "BZh", func(r io.Reader) (io.Reader, error) { return bzip2.NewReader(r), nil }},
	{"lzma", "\x5d\x00\x00", func(r io.Reader) (io.Reader, error) { return lzma.NewReader(r) }},
	{"lzo", lzopMagic, newLzop},
	{"lz4", "\x02\x21\x4c\x18", func(r io.Reader) (io.Reader, error) { return lz4.NewReader(r), nil }},
	{"zstd", "\x28\xb5\x2f\xfd", func(r io.Reader) (io.Reader, error) {
		// scripts/Makefile.lib packs with --ultra -22: a window of 128 MiB.
		return zstd.NewReader(r, zstd.WithDecoderMaxWindow(256<<20), zstd.WithDecoderConcurrency(1))
	}},
}

// sizeAppended is the length of the unpacked size that the kernel's Makefile
// puts behind the stream.
const sizeAppended = 4

func decompress(payload []byte) (raw []byte, how string, err error) {
	if bytes.HasPrefix(payload, []byte(elf.ELFMAG)) {
		return payload, "none", nil
	}
	for _, f := range formats {
		if !bytes.HasPrefix(payload, []byte(f.magic)) {
			continue
		}
		raw, err := inflate(f, payload)
		if err != nil {
			return nil, "", fmt.Errorf("unpacking the %s payload: %w", f.name, err)
		}
		return raw, f.name, nil
	}
	return nil, "", fmt.Errorf("the payload begins with % x: no compression known for kernels", payload[:min(8, len(payload))])
}

func inflate(f format, payload []byte) ([]byte, error) {
	var want uint32
	in := payload
	if f.name != "gzip" {
		if len(in) <= sizeAppended {
			return nil, io.ErrUnexpectedEOF
		}
		in = in[:len(in)-sizeAppended]
	}
	// gzip ends with the unpacked size by itself.
	tail := payload[len(payload)-sizeAppended:]
	want = uint32(tail[0]) | uint32(tail[1])<<8 | uint32(tail[2])<<16 | uint32(tail[3])<<24
	if want > MaxImage {
		return nil, fmt.Errorf("it claims to unpack to %d bytes", want)
	}
	r, err := f.open(bytes.NewReader(in))
	if err != nil {
		return nil, err
	}
	if c, ok := r.(interface{ Close() }); ok {
		defer c.Close()
	}
	// The claim is not trusted with memory: the buffer grows with what comes.
	out := bytes.NewBuffer(make([]byte, 0, min(int(want)+1, 64*len(in))))
	if _, err := io.Copy(out, io.LimitReader(r, int64(want)+1)); err != nil {
		return nil, err
	}
	if uint64(out.Len()) != uint64(want) {
		return nil, fmt.Errorf("it unpacks to %d bytes or more where %d are announced", out.Len(), want)
	}
	if !bytes.HasPrefix(out.Bytes(), []byte(elf.ELFMAG)) {
		return nil, errors.New("what it holds is not an ELF file")
	}
	return out.Bytes(), nil
}
