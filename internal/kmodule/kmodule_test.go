// SPDX-License-Identifier: Apache-2.0

package kmodule

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// module makes the smallest ELF file that has a .modinfo section.
func module(entries ...string) []byte {
	info := []byte(strings.Join(entries, "\x00") + "\x00")
	strs := []byte("\x00.modinfo\x00.shstrtab\x00")
	var b bytes.Buffer
	le := binary.LittleEndian
	put := func(v any) { _ = binary.Write(&b, le, v) }
	const ehsize, shsize = 64, 64
	infoOff := uint64(ehsize)
	strOff := infoOff + uint64(len(info))
	shOff := (strOff + uint64(len(strs)) + 7) &^ 7
	b.WriteString("\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9))
	put([]uint16{1, 62})
	put(uint32(1))
	put([]uint64{0, 0, shOff})
	put(uint32(0))
	put([]uint16{ehsize, 0, 0, shsize, 3, 2})
	b.Write(info)
	b.Write(strs)
	b.Write(make([]byte, shOff-uint64(b.Len())))
	section := func(name, typ uint32, off, size uint64) {
		put([]uint32{name, typ})
		put([]uint64{0, 0, off, size})
		put([]uint32{0, 0})
		put([]uint64{1, 0})
	}
	section(0, 0, 0, 0)
	section(1, 1, infoOff, uint64(len(info)))
	section(10, 3, strOff, uint64(len(strs)))
	return b.Bytes()
}

func write(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func gz(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

func zst(b []byte) []byte {
	e, _ := zstd.NewWriter(nil)
	return e.EncodeAll(b, nil)
}

// xzOf uses the program that kernel builds use, with their check (CRC32).
func xzOf(t *testing.T, b []byte) []byte {
	cmd := exec.Command("xz", "--check=crc32", "--lzma2=dict=1MiB", "-c")
	cmd.Stdin = bytes.NewReader(b)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the xz program is needed: %v", err)
	}
	return out
}

func tree(t *testing.T) (*Tree, string) {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "kernel/a/top.ko", module("name=top", "depends=mid-one,mid_two,built_in", "alias=pci:v1*"))
	write(t, dir, "kernel/a/mid-one.ko.gz", gz(module("name=mid_one", "depends=base")))
	write(t, dir, "kernel/b/mid_two.ko.xz", xzOf(t, module("name=mid_two", "depends=base,mid_one", "softdep=pre: soft crypto-nothing crypto-sum post: later")))
	write(t, dir, "kernel/b/base.ko.zst", zst(module("depends=", "vermagic=6.1.0-47-amd64 SMP")))
	write(t, dir, "kernel/b/soft.ko", module("name=soft", "depends="))
	write(t, dir, "kernel/b/sum-one.ko", module("name=sum_one", "depends=base", "alias=crypto-sum", "alias=sum"))
	write(t, dir, "kernel/b/sum-two.ko.xz", xzOf(t, module("name=sum_two", "depends=", "alias=crypto-sum", "alias=crypto-s*")))
	write(t, dir, "kernel/b/later.ko", module("name=later", "depends=mid_two"))
	write(t, dir, "kernel/c/lost.ko", module("name=lost", "depends=nowhere"))
	write(t, dir, "kernel/c/ring1.ko", module("name=ring1", "depends=ring2"))
	write(t, dir, "kernel/c/ring2.ko", module("name=ring2", "depends=ring1"))
	write(t, dir, "kernel/c/not.ko", []byte("hello"))
	write(t, dir, "modules.builtin", []byte("kernel/x/built-in.ko\n"))
	tr, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tr, dir
}

func names(modules []*Module) string {
	var n []string
	for _, m := range modules {
		n = append(n, m.Name)
	}
	return strings.Join(n, " ")
}

func TestClosureOrder(t *testing.T) {
	tr, _ := tree(t)
	got, err := tr.Closure("top", "base")
	if err != nil {
		t.Fatal(err)
	}
	if n := names(got); n != "base mid_one soft sum_one sum_two mid_two later top" {
		t.Errorf("order %q", n)
	}
	if got, err := tr.Closure("built-in"); err != nil || len(got) != 0 {
		t.Errorf("built-in: %v, %v", got, err)
	}
	want := `kernel/b/base.ko:
kernel/a/mid-one.ko: kernel/b/base.ko
kernel/b/soft.ko:
kernel/b/sum-one.ko: kernel/b/base.ko
kernel/b/sum-two.ko:
kernel/b/mid_two.ko: kernel/a/mid-one.ko kernel/b/base.ko
kernel/b/later.ko: kernel/b/mid_two.ko kernel/a/mid-one.ko kernel/b/base.ko
kernel/a/top.ko: kernel/b/mid_two.ko kernel/a/mid-one.ko kernel/b/base.ko
`
	if d := string(DepFile(got)); d != want {
		t.Errorf("modules.dep:\n%s", d)
	}
	if a := string(AliasFile(got)); a != "alias crypto-sum sum_one\nalias sum sum_one\nalias crypto-sum sum_two\nalias crypto-s* sum_two\nalias pci:v1* top\n" {
		t.Errorf("modules.alias: %q", a)
	}
	if got[0].Vermagic != "6.1.0-47-amd64 SMP" || got[0].Name != "base" || got[0].Path != "kernel/b/base.ko" {
		t.Errorf("base: %+v", got[0])
	}
}

func TestClosureFailures(t *testing.T) {
	tr, _ := tree(t)
	if _, err := tr.Closure("nowhere"); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown module: %v", err)
	}
	if _, err := tr.Closure("lost"); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "for lost") || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("unknown dependency: %v", err)
	}
	if _, err := tr.Closure("ring1"); err == nil || !strings.Contains(err.Error(), "needs itself") {
		t.Errorf("circle: %v", err)
	}
	if _, err := tr.Closure("not"); !errors.Is(err, ErrNotModule) {
		t.Errorf("not a module: %v", err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "gone")); err == nil {
		t.Error("a missing folder was opened")
	}
}

func TestUpdatesComeFirst(t *testing.T) {
	_, dir := tree(t)
	write(t, dir, "updates/dkms/top.ko", module("name=top", "depends="))
	tr, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := tr.Load("top"); err != nil || m.Path != "updates/dkms/top.ko" {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestTruncatedCompression(t *testing.T) {
	for name, packed := range map[string][]byte{"gz": gz(module("name=x")), "xz": xzOf(t, module("name=x")), "zst": zst(module("name=x"))} {
		if _, err := Decompress(packed[:len(packed)-9]); err == nil {
			t.Errorf("%s: a truncated file was accepted", name)
		}
	}
}

// FuzzParseInfo: no input may crash the reader.
func FuzzParseInfo(f *testing.F) {
	good := module("name=x", "depends=a,b", "softdep=pre: c")
	f.Add(good)
	f.Add(good[:70])
	f.Add(bytes.Replace(good, []byte{64, 0, 0, 0}, []byte{255, 255, 255, 255}, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		if info, err := ParseInfo(b); (info == nil) == (err == nil) {
			t.Fatalf("%v, %v", info, err)
		}
	})
}

// TestProviders: the aliases of a tree are found once and kept.
func TestProviders(t *testing.T) {
	tr, dir := tree(t)
	tr.AliasCache = filepath.Join(t.TempDir(), "a", "aliases")
	for _, c := range []struct{ name, want string }{
		{"crypto-sum", "sum_one sum_two"}, {"sum", "sum_one"}, {"sum-two", "sum_two"}, {"built-in", "built_in"},
		{"nothing", ""}, {"crypto-stars", ""}, {"pci:v1*", ""},
	} {
		if got, err := tr.Providers(c.name); err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
	kept, err := os.ReadFile(tr.AliasCache)
	if err != nil || !strings.Contains(string(kept), "alias crypto-sum sum_two\n") {
		t.Errorf("%v, kept:\n%s", err, kept)
	}
	again, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	// What is kept is used, and what depmod has made before that.
	again.AliasCache = tr.AliasCache
	write(t, filepath.Dir(tr.AliasCache), "aliases", []byte("alias kept soft\n"))
	if got, err := again.Providers("kept"); err != nil || strings.Join(got, " ") != "soft" {
		t.Errorf("kept: %q, %v", got, err)
	}
	write(t, dir, "modules.alias", []byte("# comment\nalias of-depmod base\nalias of-depmod base\n"))
	if again, err = Open(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := again.Providers("of-depmod"); err != nil || strings.Join(got, " ") != "base" {
		t.Errorf("of depmod: %q, %v", got, err)
	}
}

func TestSoftdepFile(t *testing.T) {
	text := SoftdepFile([]*Module{{Info: &Info{Name: "a", Pre: []string{"b", "c"}, Post: []string{"d"}}}, {Info: &Info{Name: "e"}}, {Info: &Info{Name: "f", Post: []string{"g"}}}})
	if string(text) != "softdep a pre: b c post: d\nsoftdep f post: g\n" {
		t.Errorf("%s", text)
	}
	got := ParseSoftdep(string(text) + "softdep a pre: x-y\n# softdep z pre: q\nnonsense\n")
	if len(got) != 2 || strings.Join(got["a"].Pre, " ") != "b c x_y" || strings.Join(got["a"].Post, " ") != "d" || strings.Join(got["f"].Post, " ") != "g" {
		t.Errorf("%+v", got)
	}
}
