// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/gob"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/klauspost/compress/zstd"
)

// inclusions is what the files of a tree include, as kept on disk. What has
// another size or time than noted is read again.
type inclusions struct {
	Files   map[string]*scanned
	changed bool
}

type scanned struct {
	Size, Time int64
	Includes   []inclusion
}

// inclusionsVersion changes when what is kept changes, or what is found.
const inclusionsVersion = "1"

func (t *Tree) inclusionsFile() string {
	return filepath.Join(t.cache, "includes", t.key+"-v"+inclusionsVersion+".gob.zst")
}

// readInclusions gives what is kept; nothing if it cannot be read.
func (t *Tree) readInclusions() *inclusions {
	k := &inclusions{}
	if b, err := os.ReadFile(t.inclusionsFile()); err == nil && t.Kind != KindModule {
		if z, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1)); err == nil {
			if gob.NewDecoder(z).Decode(&k.Files) != nil {
				k.Files = nil
			}
			z.Close()
		}
	}
	if k.Files == nil {
		k.Files = map[string]*scanned{}
	}
	return k
}

// name says whether any file includes one of that name.
func (k *inclusions) name(base string) bool {
	for _, s := range k.Files {
		for _, inc := range s.Includes {
			if strings.HasSuffix(inc, base) && path.Base(inc[1:]) == base {
				return true
			}
		}
	}
	return false
}

// keepInclusions writes it to disk; a failure only costs time later.
func (t *Tree) keepInclusions(k *inclusions) {
	if !k.changed || t.Kind == KindModule || os.MkdirAll(filepath.Dir(t.inclusionsFile()), 0o755) != nil {
		return
	}
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return
	}
	if gob.NewEncoder(z).Encode(k.Files) == nil && z.Close() == nil {
		_ = renameio.WriteFile(t.inclusionsFile(), b.Bytes(), 0o644)
	}
}

// whole lists the whole tree. Of a tree of the user it is kept under a digest of
// its makefiles, because asking them takes a quarter of a minute.
func (t *Tree) whole(ctx context.Context) (*listing, error) {
	if t.Kind == KindTree {
		id, err := t.makefilesID(ctx)
		if err != nil {
			return nil, err
		}
		return t.listFolder(ctx, ".", t.Obj, "whole-"+id)
	}
	return t.list(ctx, ".")
}

// makefilesID is a digest of names, sizes and times of all files that decide
// what is built how.
func (t *Tree) makefilesID(ctx context.Context) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(t.Src, func(p string, d fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); n == ".git" || n == "Documentation" {
				return fs.SkipDir
			}
			return nil
		}
		rel, _ := filepath.Rel(t.Src, p)
		n := d.Name()
		if strings.Contains(n, "Makefile") || strings.Contains(n, "Kbuild") || strings.HasSuffix(n, ".mk") || strings.HasPrefix(rel, "scripts/") && !isProduct(rel) {
			st, err := d.Info()
			if err != nil {
				return err
			}
			fmt.Fprintf(h, "%s\x00%d\x00%d\x00", rel, st.Size(), st.ModTime().UnixNano())
		}
		return nil
	})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return "", fmt.Errorf("looking through the makefiles of %s: %w", t.Src, err)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}
