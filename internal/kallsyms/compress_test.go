// SPDX-License-Identifier: Apache-2.0

package kallsyms

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"os"
	"os/exec"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz/lzma"
)

func gz(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

// packers make payloads as scripts/Makefile.lib does. Those that are programs
// are skipped where the program is not installed.
var packers = []struct {
	name string
	pack func([]byte) ([]byte, error)
	prog []string
}{
	{name: "gzip", pack: func(b []byte) ([]byte, error) { return gz(b), nil }},
	{name: "zstd", pack: func(b []byte) ([]byte, error) {
		w, err := zstd.NewWriter(nil)
		if err != nil {
			return nil, err
		}
		return w.EncodeAll(b, nil), nil
	}},
	{name: "lzma", pack: func(b []byte) ([]byte, error) {
		var out bytes.Buffer
		w, err := lzma.WriterConfig{SizeInHeader: false, EOSMarker: true}.NewWriter(&out)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(b); err != nil {
			return nil, err
		}
		err = w.Close()
		return out.Bytes(), err
	}},
	{name: "xz", prog: []string{"xz", "--check=crc32", "--x86", "--lzma2=dict=32MiB", "-c"}},
	{name: "bzip2", prog: []string{"bzip2", "-c"}},
	{name: "lz4", prog: []string{"lz4", "-l", "-9", "-", "-"}},
	{name: "lzo", prog: []string{"lzop", "-9", "-c"}},
	{name: "lzma", prog: []string{"xz", "--format=lzma", "-c"}},
	{name: "zstd", prog: []string{"zstd", "-19", "-c"}},
}

func TestCompressions(t *testing.T) {
	// A program of real code: the branch filter and the windows do something.
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	vm := testELF(code[:1<<20])
	for _, p := range packers {
		name := p.name
		if p.prog != nil {
			name += " program"
		}
		t.Run(name, func(t *testing.T) {
			var payload []byte
			var err error
			if p.prog != nil {
				if _, err := exec.LookPath(p.prog[0]); err != nil {
					t.Skipf("%s is not installed", p.prog[0])
				}
				cmd := exec.Command(p.prog[0], p.prog[1:]...)
				cmd.Stdin = bytes.NewReader(vm)
				payload, err = cmd.Output()
			} else {
				payload, err = p.pack(vm)
			}
			if err != nil {
				t.Fatal(err)
			}
			if p.name != "gzip" {
				payload = binary.LittleEndian.AppendUint32(payload, uint32(len(vm)))
			}
			im, err := read(t, testBz(payload))
			if err != nil {
				t.Fatal(err)
			}
			if im.Compression != p.name || !bytes.Equal(im.Raw, vm) {
				t.Errorf("%s: %d bytes, want %d", im.Compression, len(im.Raw), len(vm))
			}
			// What is cut off or changed must not pass.
			if im, err := read(t, testBz(append(bytes.Clone(payload[:len(payload)/2]), payload[len(payload)-4:]...))); err == nil || im != nil {
				t.Error("half a payload passed")
			}
		})
	}
}
