// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lupatch/lupatch/internal/refuse"
)

func TestCompilerCheck(t *testing.T) {
	ours, err := (&Tree{CC: "gcc"}).compilerID(t.Context())
	if err != nil || !strings.Contains(ours, "gcc version") {
		t.Fatalf("%q, %v", ours, err)
	}
	for text, want := range map[string]string{
		"gcc (Debian 1.2.3-4) 1.2.3":                       "install the package gcc (version 1.2.3-4)",
		"gcc-99 (Debian 99.1.0-1) 99.1.0":                  "install the package gcc-99 (version 99.1.0-1)",
		"x86_64-linux-gnu-gcc-99 (Debian 99.1.0-1) 99.1.0": "install the package gcc-99 (version 99.1.0-1)",
		"Debian clang version 14.0.6":                      "only gcc",
		"":                                                 "does not say",
		"gcc (GCC) 4.8.5 20150623 (Red Hat 4.8.5-44)":      "4.8.5",
	} {
		tr := &Tree{Config: Config{"CONFIG_CC_VERSION_TEXT": text}}
		wantRefusal(t, tr.checkCompiler(t.Context()), refuse.CompilerMismatch, want)
	}
	tr := &Tree{Config: Config{"CONFIG_CC_VERSION_TEXT": "gcc (Debian 1.2.3-4) 1.2.3"}, opt: Options{AnyCompiler: true}}
	if err := tr.checkCompiler(t.Context()); err != nil || len(tr.Notes) != 1 || !strings.Contains(tr.Notes[0], "1.2.3-4") {
		t.Errorf("any compiler: %v, %q", err, tr.Notes)
	}
}

func TestReadConfig(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"c": "#\n# Comment\nCONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D=\"a \\\"b\\\" \\\\c\"\nCONFIG_E=0x10\nnonsense\n", "empty": "# nothing\n"})
	c, err := ReadConfig(filepath.Join(dir, "c"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Config{"CONFIG_A": "y", "CONFIG_B": "m", "CONFIG_D": `a "b" \c`, "CONFIG_E": "0x10"}, c); d != "" {
		t.Error(d)
	}
	if !c.Enabled("CONFIG_B") || c.Enabled("CONFIG_C") || c.Enabled("CONFIG_E") {
		t.Error("Enabled is wrong")
	}
	for _, f := range []string{"empty", "none"} {
		if c, err := ReadConfig(filepath.Join(dir, f)); err == nil || c != nil {
			t.Errorf("%s: no error", f)
		}
	}
}

func TestOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "x", "made")
	boom := errors.New("boom")
	if err := once(t.Context(), dir, func(tmp string) error {
		write(t, tmp, map[string]string{"half": "done"})
		return boom
	}); !errors.Is(err, boom) || exists(dir) || exists(dir+".part") {
		t.Errorf("failed: %v", err)
	}
	// What a killed process leaves.
	write(t, dir+".part", map[string]string{"old": "x"})
	var mu sync.Mutex
	runs := 0
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			err := once(t.Context(), dir, func(tmp string) error {
				mu.Lock()
				defer mu.Unlock()
				runs++
				return os.WriteFile(filepath.Join(tmp, "whole"), nil, 0o644)
			})
			if err != nil || !exists(filepath.Join(dir, "whole")) || exists(filepath.Join(dir, "old")) {
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	if runs != 1 {
		t.Errorf("made %d times", runs)
	}
	// Who waits for another can be told to stop.
	unlock, err := lock(t.Context(), dir+".l")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lock(ctx, dir+".l"); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting: %v", err)
	}
	unlock()
	unlock, err = lock(t.Context(), dir+".l")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestShellCommands(t *testing.T) {
	got, err := shellCommands(`gcc-12 -DX='"a b"' -D"Y=\"c\"" -c -o x.o x.c   ; ./tools/objtool/objtool --orc   x.o`)
	want := [][]string{{"gcc-12", `-DX="a b"`, `-DY="c"`, "-c", "-o", "x.o", "x.c"}, {"./tools/objtool/objtool", "--orc", "x.o"}}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%s %v", d, err)
	}
	for _, bad := range []string{"gcc -c x.c > out", "gcc $(id)", "gcc $X", "gcc `id`", "gcc x | tee", "X=1 gcc", "gcc x &", "if true; then gcc; fi", "! gcc", "gcc 'x", "a && b", "a; { b; }"} {
		if got, err := shellCommands(bad); err == nil || got != nil {
			t.Errorf("%s: %q", bad, got)
		}
	}
}

const makeOutput = `make -f /S/scripts/Makefile.build obj=drv need-builtin=1
set -e;  echo '  CC [M]  drv/a.o'; trap 'rm -f drv/a.o' HUP; gcc -DN='"drv"' -I/S/include -DHASH=\# -c -o drv/a.o /S/drv/a.c   ; ./tools/objtool/objtool --orc --module drv/a.o; scripts/basic/fixdep drv/.a.o.d drv/a.o 'gcc -DN='\''"drv"'\'' -I/S/include -DHASH=\# -DD=$$1 -c -o drv/a.o /S/drv/a.c   ; ./tools/objtool/objtool --orc --module drv/a.o' > drv/.a.o.cmd; rm -f drv/.a.o.d
set -e;  scripts/basic/fixdep drv/sub/../deep/.b.o.d drv/sub/../deep/b.o 'gcc -c -o drv/sub/../deep/b.o /S/drv/sub/../deep/b.c' > x
set -e;  scripts/basic/fixdep drv/.s.o.d drv/s.o 'gcc -c -o drv/s.o /S/drv/s.S' > x
set -e; trap 'rm -f drv/x-y.mod; trap - PIPE; kill -s PIPE $$' PIPE; printf '%s\n'   a.o sub/../deep/b.o a.o s.o | awk '!x[$0]++ { print("drv/"$0) }' > drv/x-y.mod; printf '%s\n' 'cmd_drv/x-y.mod := printf '\''%s\n'\''   a.o | awk '\''!x[$$0]++ { print("drv/"$$0) }'\'' > drv/x-y.mod' > drv/.x-y.mod.cmd
set -e; ld -m elf_x86_64   -r -o drv/x-y.o @drv/x-y.mod  ; ./tools/objtool/objtool --ibt --orc  --link  --module drv/x-y.o; printf '%s\n' 'savedcmd_drv/x-y.o := ld -m elf_x86_64   -r -o drv/x-y.o @drv/x-y.mod  ; ./tools/objtool/objtool --ibt --orc  --link  --module drv/x-y.o' > drv/.x-y.o.cmd
set -e;  scripts/basic/fixdep drv/.c.o.d drv/c.o 'gcc never closed
`

func TestParseListing(t *testing.T) {
	tr := &Tree{Src: "/S"}
	got := tr.parseListing([]byte(makeOutput), "make[3]: *** No rule to make target 'drv/gen.h', needed by '/O/drv/z.o'.  Stop.\n", "/S", "/O")
	want := &listing{
		Commands: map[string]string{
			"drv/a.o":      `gcc -DN='"drv"' -I@SRC@/include -DHASH=# -DD=$1 -c -o drv/a.o @SRC@/drv/a.c   ; ./tools/objtool/objtool --orc --module drv/a.o`,
			"drv/deep/b.o": `gcc -c -o drv/sub/../deep/b.o @SRC@/drv/sub/../deep/b.c`,
			"drv/s.o":      `gcc -c -o drv/s.o @SRC@/drv/s.S`,
		},
		Sources: map[string]string{"drv/a.c": "drv/a.o", "drv/deep/b.c": "drv/deep/b.o"},
		Modules: map[string][]string{"drv/x-y": {"drv/a.o", "drv/deep/b.o", "drv/s.o"}},
		Late:    map[string]string{"drv/x-y": "./tools/objtool/objtool --ibt --orc  --link  --module drv/x-y.o"},
		Blocked: map[string]string{"drv/z.o": "drv/gen.h"},
		obj:     "/O",
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(listing{})); d != "" {
		t.Error(d)
	}
	if !got.blocks("drv") || got.blocks("drv/deep") {
		t.Error("blocks is wrong")
	}
	// What is kept on disk comes back.
	file := filepath.Join(t.TempDir(), "x", "l.zst")
	keepListing(file, got)
	back, ok := readListing(file)
	if !ok {
		t.Fatal("cannot be read back")
	}
	back.obj = "/O"
	if d := cmp.Diff(want, back, cmp.AllowUnexported(listing{})); d != "" {
		t.Error(d)
	}
	if err := os.WriteFile(file, []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, ok := readListing(file); ok {
		t.Error("a damaged file was believed")
	}
}

// A step of a compile command that is not understood must not be left out.
func TestUnknownStep(t *testing.T) {
	tr := &Tree{Src: "/S", Obj: "/O"}
	for text, want := range map[string]string{
		"gcc -c -o a.o @SRC@/a.c ; objcopy --weaken a.o":    "step \"objcopy\" is not known",
		"gcc -c -o a.o @SRC@/a.c ; gcc -c -o a.o @SRC@/a.c": "compiles twice",
		"objtool a.o":                                               "nothing compiles it",
		"gcc -DMODULE -c -o a.o @SRC@/a.c":                          "module without a name",
		"gcc -c -o a.o @SRC@/a.c > log":                             "not a plain command",
		"gcc -DMODULE -DKBUILD_MODNAME='\"m\"' -c -o a.o @SRC@/a.c": "no module m",
	} {
		l := &listing{Commands: map[string]string{"a.o": text}, obj: "/O"}
		if u, err := tr.tuOf(t.Context(), l, ".", "a.o"); err == nil || u != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestSymvers(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"good":   "0x12345678\tkmalloc\tvmlinux\tEXPORT_SYMBOL\t\n0x0\tx\tdrivers/a/b\tEXPORT_SYMBOL_GPL\tNS\n0x1\told\tvmlinux\tEXPORT_SYMBOL\n",
		"short":  "0x1\tx\n",
		"number": "zz\tx\tvmlinux\tEXPORT_SYMBOL\t\n",
	})
	got, err := readSymvers(filepath.Join(dir, "good"))
	want := map[string]Export{"kmalloc": {CRC: 0x12345678, Module: "vmlinux"}, "x": {Module: "drivers/a/b", GPL: true, Namespace: "NS"}, "old": {CRC: 1, Module: "vmlinux"}}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%s %v", d, err)
	}
	for _, bad := range []string{"short", "number"} {
		if got, err := readSymvers(filepath.Join(dir, bad)); err == nil || got != nil {
			t.Errorf("%s: no error", bad)
		}
	}
	if got, err := readSymvers(filepath.Join(dir, "none")); err != nil || len(got) != 0 {
		t.Errorf("not built: %v, %v", got, err)
	}
}

func TestParseDeps(t *testing.T) {
	got := parseDeps([]byte("x.o: a.c \\\n b.h /c/d.h \\\n  e.h\n"))
	if d := cmp.Diff([]string{"a.c", "b.h", "/c/d.h", "e.h"}, got); d != "" {
		t.Error(d)
	}
	if got := parseDeps([]byte("nothing")); got != nil {
		t.Errorf("%q", got)
	}
}

func FuzzParseListing(f *testing.F) {
	f.Add(makeOutput, "No rule to make target 'a', needed by 'b'")
	f.Fuzz(func(t *testing.T, out, log string) {
		tr := &Tree{Src: "/S", Obj: "/O"}
		l := tr.parseListing([]byte(out), log, "/S", "/O")
		for obj := range l.Commands {
			// Never a panic, never a unit without a source.
			if u, err := tr.tuOf(t.Context(), l, ".", obj); err == nil && u.Source == "" {
				t.Fatalf("%q: %+v", obj, u)
			}
		}
	})
}
