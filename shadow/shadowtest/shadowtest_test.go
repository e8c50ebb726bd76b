// SPDX-License-Identifier: Apache-2.0

package shadowtest

import (
	"debug/elf"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/kmodule"
)

const kernel = "6.1.0-47-amd64"

// Every variant can be made of the kernel's source, and no two are the same.
func TestEdits(t *testing.T) {
	if testing.Short() {
		t.Skip("fetches the kernel's source")
	}
	k, err := tree(t.Context(), kernel)
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range drivers {
		seen := map[string]string{}
		for v := range d.variants {
			files, err := changed(k.KernelSrc, name, v)
			if err != nil {
				t.Error(err)
			}
			all := fmt.Sprintf("%q", files)
			if other := seen[all]; other != "" {
				t.Errorf("%s: %s and %s are the same", name, v, other)
			}
			seen[all] = v
		}
	}
}

// A variant is a module of its own for this kernel. The others are compiled by those
// who load them.
func TestVariants(t *testing.T) {
	for name, variants := range map[string][]string{"e1000": {Same, NoLoad, WrongVermagic}, "virtio_net": {Newer}} {
		seen := map[string]string{}
		for _, v := range variants {
			file := Driver(t, kernel, name, v)
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if other := seen[string(b)]; other != "" {
				t.Errorf("%s: %s and %s are the same", name, v, other)
			}
			seen[string(b)] = v
			info, err := kmodule.ParseInfo(b)
			if err != nil {
				t.Fatal(err)
			}
			if info.Name != name || strings.HasPrefix(info.Vermagic, kernel+" ") == (v == WrongVermagic) {
				t.Errorf("%s %s: it is %s for %q", name, v, info.Name, info.Vermagic)
			}
			f, err := elf.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			if f.Section(".note.gnu.build-id") == nil || f.Section(".debug_info") != nil {
				t.Errorf("%s %s: without build id, or with debugging information", name, v)
			}
			syms, err := f.Symbols()
			f.Close()
			if err != nil {
				t.Fatal(err)
			}
			open := false
			for _, s := range syms {
				open = open || s.Name == "lupatch_no_such_symbol" && s.Section == elf.SHN_UNDEF
			}
			if open != (v == NoLoad) {
				t.Errorf("%s %s: an unknown symbol is needed: %v", name, v, open)
			}
		}
	}
}

func TestNoSuchVariant(t *testing.T) {
	for _, c := range [][2]string{{"e1000", "none"}, {"none", Same}, {"e1000e", Grown}} {
		if p, err := Make(t.Context(), kernel, c[0], c[1]); err == nil {
			t.Errorf("%v: %s", c, p)
		}
	}
}
