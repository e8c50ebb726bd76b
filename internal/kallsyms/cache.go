// SPDX-License-Identifier: Apache-2.0

package kallsyms

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"github.com/sirupsen/logrus"
)

// Open reads the image at path. Unpacking takes seconds for some formats, so
// the vmlinux out of a vmlinuz is kept in the user's cache directory under the
// digest of the vmlinuz. A cache that cannot be used is no error.
func Open(path string) (*Image, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading kernel image: %w", err)
	}
	if bytes.HasPrefix(b, []byte(elf.ELFMAG)) {
		im, err := newImage(b, "none")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		im.File = path
		return im, nil
	}
	kept := ""
	if dir, err := os.UserCacheDir(); err == nil {
		sum := sha256.Sum256(b)
		kept = filepath.Join(dir, "lupatch", "vmlinux", hex.EncodeToString(sum[:]))
		if im, ok := fromCache(kept); ok {
			return im, nil
		}
	}
	raw, how, err := unpack(b)
	if err != nil {
		return nil, fmt.Errorf("reading kernel image %s: %w", path, err)
	}
	im, err := newImage(raw, how)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if kept != "" {
		if err := keep(kept, raw, how); err != nil {
			logrus.WithError(err).Debug("keeping unpacked vmlinux")
		} else {
			im.File = kept
		}
	}
	return im, nil
}

// A kept file is the vmlinux, the name of the compression, and the digest of
// both (so that a damaged cache is noticed) in its last bytes.
const keptName = 8

func keep(path string, raw []byte, how string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	name := make([]byte, keptName)
	copy(name, how)
	h := sha256.New()
	h.Write(raw)
	h.Write(name)
	f, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644))
	if err != nil {
		return err
	}
	defer f.Cleanup()
	for _, part := range [][]byte{raw, name, h.Sum(nil)} {
		if _, err := f.Write(part); err != nil {
			return err
		}
	}
	return f.CloseAtomicallyReplace()
}

func fromCache(path string) (*Image, bool) {
	b, err := os.ReadFile(path)
	if err != nil || len(b) < keptName+sha256.Size {
		return nil, false
	}
	body, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if got := sha256.Sum256(body); !bytes.Equal(got[:], sum) {
		logrus.WithField("file", path).Debug("kept vmlinux is damaged")
		return nil, false
	}
	raw := body[:len(body)-keptName]
	how := string(bytes.TrimRight(body[len(body)-keptName:], "\x00"))
	im, err := newImage(raw, how)
	if err != nil {
		return nil, false
	}
	im.File = path
	return im, true
}
