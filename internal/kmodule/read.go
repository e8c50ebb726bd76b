// SPDX-License-Identifier: Apache-2.0

package kmodule

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
)

// maxModule bounds a decompressed module: the largest of a distribution (amdgpu
// with BTF) has some 30 MB; a bomb has more.
const maxModule = 512 << 20

// suffixes are the endings of module files, compressed ones included
// (kernel/Kconfig, MODULE_COMPRESS_*).
var suffixes = []string{".ko", ".ko.gz", ".ko.xz", ".ko.zst"}

// nameOf gives the module's name if the file is one by its name.
func nameOf(base string) (string, bool) {
	for _, s := range suffixes {
		if name, ok := strings.CutSuffix(base, s); ok {
			return CanonicalName(name), true
		}
	}
	return "", false
}

// Read gives the content of a module file, decompressed as its magic bytes ask.
func Read(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading a module: %w", err)
	}
	image, err := Decompress(raw)
	if err != nil {
		return nil, fmt.Errorf("decompressing %s: %w", path, err)
	}
	return image, nil
}

// Decompress undoes gzip, xz or zstd; anything else is returned as it is.
func Decompress(raw []byte) ([]byte, error) {
	var r io.Reader
	var err error
	switch {
	case bytes.HasPrefix(raw, []byte("\x1f\x8b")):
		r, err = gzip.NewReader(bytes.NewReader(raw))
	case bytes.HasPrefix(raw, []byte("\xfd7zXZ\x00")):
		r, err = xz.NewReader(bytes.NewReader(raw), 0)
	case bytes.HasPrefix(raw, []byte("\x28\xb5\x2f\xfd")):
		var d *zstd.Decoder
		if d, err = zstd.NewReader(bytes.NewReader(raw), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxModule)); err == nil {
			defer d.Close()
			r = d
		}
	default:
		return raw, nil
	}
	if err != nil {
		return nil, err
	}
	image, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	if err != nil {
		return nil, err
	}
	if len(image) > maxModule {
		return nil, errors.New("the module is impossibly large")
	}
	return image, nil
}
