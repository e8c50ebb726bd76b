// SPDX-License-Identifier: Apache-2.0

package objpair

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/patchgen"
)

const source = `
extern int exported(int); extern int counted;
int unchanged(int a) { return a + counted; }
int changed(int a) { return exported(a) + counted + PLUS; }
`

func compiled(t *testing.T, dir, name, plus string) {
	t.Helper()
	c := filepath.Join(dir, "unit.c")
	if err := os.WriteFile(c, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	args := append(strings.Fields("-O2 -g -mcmodel=kernel -fno-pic -fcf-protection=none -fno-asynchronous-unwind-tables -pg -mfentry -mrecord-mcount -ffunction-sections -fdata-sections -fno-optimize-sibling-calls"),
		"-DPLUS="+plus, "-c", "-o", filepath.Join(dir, name), c)
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
}

// pairOf keeps a pair and reads it back.
func pairOf(t *testing.T, oldPlus, newPlus string) *Fix {
	t.Helper()
	dir := t.TempDir()
	compiled(t, dir, "unit.before.o", oldPlus)
	compiled(t, dir, "unit.after.o", newPlus)
	f := &Fix{Patch: "p", Dir: dir, Pairs: []Pair{{Source: "unit.c", Unit: "mod", Old: "unit.before.o", New: "unit.after.o", Lines: &patchgen.LineMap{Hunks: []patchgen.LineHunk{{OldStart: 4, OldLines: 1, NewStart: 4, NewLines: 1}}}}}}
	if err := f.Write(); err != nil {
		t.Fatal(err)
	}
	g, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(f, g) {
		t.Fatalf("kept %+v, read %+v", f, g)
	}
	return g
}

const symversText = "0x01\tcounted\tvmlinux\tEXPORT_SYMBOL_NS\tSPACE\n0x03\tother\tvmlinux\tEXPORT_SYMBOL\t\n0x02\texported\tdrivers/my-dev/my-dev\tEXPORT_SYMBOL_GPL\t\nbroken line\n"

func TestGenerate(t *testing.T) {
	f := pairOf(t, "1", "2")
	old, new, err := f.Bytes(0)
	if err != nil {
		t.Fatal(err)
	}
	res, out, err := f.Pairs[0].Generate(old, new, []byte(symversText))
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Functions) != 1 || res.Functions[0].Name != "changed" || !reflect.DeepEqual(res.Namespaces, []string{"SPACE"}) {
		t.Errorf("functions %+v, namespaces %q", res.Functions, res.Namespaces)
	}
	if res.Refs[patchgen.Ref{Object: "my_dev", Symbol: "exported"}] != 1 {
		t.Errorf("references %+v", res.Refs)
	}
	if _, err := elfobj.Read(out); err != nil {
		t.Error(err)
	}
}

func TestGenerateNothing(t *testing.T) {
	f := pairOf(t, "1", "1")
	old, new, err := f.Bytes(0)
	if err != nil {
		t.Fatal(err)
	}
	res, out, err := f.Pairs[0].Generate(old, new, nil)
	if err != nil || !res.Empty() || out != nil {
		t.Errorf("%+v, %d bytes, %v", res, len(out), err)
	}
}

// Errors name the object; none of them is taken for a refusal.
func TestGenerateDamaged(t *testing.T) {
	f := pairOf(t, "1", "2")
	old, new, err := f.Bytes(0)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][2][]byte{"before": {old[:100], new}, "after": {old, new[:len(new)/2]}} {
		res, _, err := f.Pairs[0].Generate(b[0], b[1], nil)
		if _, refused := refuse.As(err); err == nil || res != nil || refused || !strings.Contains(err.Error(), "unit."+name+".o") {
			t.Errorf("%s: %v, %v", name, res, err)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty folder: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, file), []byte(`{"Pairs": 1}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if f, err := Read(dir); err == nil || f != nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a damaged list: %+v, %v", f, err)
	}
	f := &Fix{Dir: dir, Pairs: []Pair{{Old: "none.o", New: "none.o"}}}
	if _, _, err := f.Bytes(0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("objects that are gone: %v", err)
	}
}
