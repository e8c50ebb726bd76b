// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/lupatch/lupatch/internal/refuse"
)

func TestFindModule(t *testing.T) {
	cache := t.TempDir()
	dir := t.TempDir()
	text := bytes.Repeat([]byte("the module "), 100)
	var gz bytes.Buffer
	w := gzip.NewWriter(&gz)
	w.Write(text)
	w.Close()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	xz := exec.Command("xz", "--check=crc32", "--lzma2=dict=1MiB", "-c") // as scripts/Makefile.modinst
	xz.Stdin = bytes.NewReader(text)
	packed, err := xz.Output()
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, map[string]string{
		"a/plain.ko": string(text), "a/with-dash_x.ko.zst": string(z.EncodeAll(text, nil)), "b/c/gz.ko.gz": gz.String(), "b/xz.ko.xz": string(packed),
		"b/damaged.ko.xz": string(packed[:40]), "other.ko.txt": "no module", "plainer.ko": "another",
	})
	for _, unit := range []string{"plain", "with_dash_x", "gz", "xz"} {
		for range 2 { // unpacked, and from the cache
			p, err := findModule(dir, unit, cache)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(p); err != nil || !bytes.Equal(b, text) || filepath.Ext(p) != ".ko" {
				t.Errorf("%s: %s, %v", unit, p, err)
			}
		}
	}
	if p, err := findModule(dir, "damaged", cache); err == nil || p != "" {
		t.Errorf("damaged: %s", p)
	}
	for _, unit := range []string{"other", "none", ""} {
		_, err := findModule(dir, unit, cache)
		wantRefusal(t, err, refuse.SourceUnavailable, "no such module")
	}
}
