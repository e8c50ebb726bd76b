// SPDX-License-Identifier: Apache-2.0

package kallsyms

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/adler32"
	"io"

	lzo "github.com/anchore/go-lzo"
)

// lzopMagic begins every file of lzop(1); CONFIG_KERNEL_LZO uses that container.
const lzopMagic = "\x89LZO\x00\r\n\x1a\n"

// Of the container, as lib/decompress_unlzo.c reads it.
const (
	lzopVersionLevel = 0x0940 // from here on the header has a level and a long time
	lzopMaxBlock     = 64 << 20

	lzopAdlerD = 1 << 0 // checksum of the plain block
	lzopAdlerC = 1 << 1 // checksum of the packed block
	lzopCRCD   = 1 << 8
	lzopCRCC   = 1 << 9
	lzopFilter = 1 << 11
)

type lzopReader struct {
	r     io.Reader
	flags uint32
	buf   []byte
	done  bool
}

func newLzop(r io.Reader) (io.Reader, error) {
	be := func(n int) (uint32, error) {
		var b [4]byte
		_, err := io.ReadFull(r, b[4-n:])
		return binary.BigEndian.Uint32(b[:]), err
	}
	// Each field in turn: its length, and whether the header has it.
	if _, err := io.CopyN(io.Discard, r, int64(len(lzopMagic))); err != nil {
		return nil, err
	}
	version, err := be(2)
	if err != nil {
		return nil, err
	}
	skip := 2 + 1 // library version, method
	if version >= lzopVersionLevel {
		skip += 2 + 1 // version needed, level
	}
	if _, err := io.CopyN(io.Discard, r, int64(skip)); err != nil {
		return nil, err
	}
	flags, err := be(4)
	if err != nil {
		return nil, err
	}
	skip = 4 + 4 // mode, time
	if flags&lzopFilter != 0 {
		skip += 4
	}
	if version >= lzopVersionLevel {
		skip += 4
	}
	if _, err := io.CopyN(io.Discard, r, int64(skip)); err != nil {
		return nil, err
	}
	name, err := be(1)
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyN(io.Discard, r, int64(name)+4); err != nil { // and the header's checksum
		return nil, err
	}
	return &lzopReader{r: r, flags: flags}, nil
}

func (l *lzopReader) Read(p []byte) (int, error) {
	for len(l.buf) == 0 {
		if l.done {
			return 0, io.EOF
		}
		if err := l.block(); err != nil {
			return 0, err
		}
	}
	n := copy(p, l.buf)
	l.buf = l.buf[n:]
	return n, nil
}

func (l *lzopReader) word() (uint32, error) {
	var b [4]byte
	_, err := io.ReadFull(l.r, b[:])
	return binary.BigEndian.Uint32(b[:]), err
}

func (l *lzopReader) block() error {
	dst, err := l.word()
	if err != nil {
		return err
	}
	if dst == 0 {
		l.done = true
		return nil
	}
	src, err := l.word()
	if err != nil {
		return err
	}
	if dst > lzopMaxBlock || src > dst {
		return fmt.Errorf("lzop block of %d bytes in %d", dst, src)
	}
	var adler uint32
	for _, f := range []uint32{lzopAdlerD, lzopCRCD, lzopAdlerC, lzopCRCC} {
		// A block stored as it is has no checksum of the packed form.
		if l.flags&f == 0 || (f == lzopAdlerC || f == lzopCRCC) && src == dst {
			continue
		}
		sum, err := l.word()
		if err != nil {
			return err
		}
		if f == lzopAdlerD {
			adler = sum
		}
	}
	in := make([]byte, src)
	if _, err := io.ReadFull(l.r, in); err != nil {
		return err
	}
	l.buf = in
	if src < dst {
		l.buf = make([]byte, dst)
		n, err := lzo.Decompress(in, l.buf)
		if err != nil {
			return err
		}
		if n != int(dst) {
			return fmt.Errorf("lzop block of %d bytes where %d are announced", n, dst)
		}
	}
	if l.flags&lzopAdlerD != 0 && adler32.Checksum(l.buf) != adler {
		return errors.New("lzop block with a wrong checksum")
	}
	return nil
}
