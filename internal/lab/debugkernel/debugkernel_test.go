// SPDX-License-Identifier: Apache-2.0

package debugkernel

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestMissing(t *testing.T) {
	fragment := "# CONFIG_C=y\nCONFIG_A=y\nCONFIG_B=m\nCONFIG_N=5\nCONFIG_OFF=n\nCONFIG_S=\"-x\"\n\n"
	for have, want := range map[string]string{
		"CONFIG_A=y\nCONFIG_B=m\nCONFIG_N=5\n# CONFIG_OFF is not set\nCONFIG_S=\"-x\"\n": "[]",
		"CONFIG_A=y\nCONFIG_B=y\nCONFIG_N=50\nCONFIG_OFF=m\nCONFIG_S=\"-x\"\n":           "[CONFIG_B=m CONFIG_N=5 CONFIG_OFF=n]",
		"": `[CONFIG_A=y CONFIG_B=m CONFIG_N=5 CONFIG_S="-x"]`,
	} {
		if got := fmt.Sprint(missing(fragment, have)); got != want {
			t.Errorf("%q: got %s, want %s", have, got, want)
		}
	}
}

// What a kernel is made from names it, so that none of it is taken for another.
func TestKey(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range []string{key("a", "b", "c"), key("a ", "b", "c"), key("ab", "", "c"), key("a", "b", "d")} {
		if seen[k] || len(k) != 16 {
			t.Errorf("%s is not a name of its own", k)
		}
		seen[k] = true
	}
}

// A folder in which a build was interrupted is not a kernel.
func TestUnfinished(t *testing.T) {
	opt := Options{Dir: t.TempDir()}
	if _, ok := Built(opt); ok {
		t.Error("an empty cache has a kernel")
	}
	dir, err := opt.dir()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "build"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, ok := Built(opt); ok {
		t.Error("half a build is a kernel")
	}
	if err := os.WriteFile(filepath.Join(dir, doneFile), []byte("6.1.170-x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if k, ok := Built(opt); !ok || k.Release != "6.1.170-x" || k.Vmlinuz() != filepath.Join(dir, "boot/vmlinuz-6.1.170-x") {
		t.Errorf("got %+v", k)
	}
}
