// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lupatch/lupatch/internal/refuse"
)

func TestRealCompile(t *testing.T) {
	tr := realTree(t)
	for _, src := range []string{e1000Main, meminfo} {
		u := tu(t, tr, src)
		for _, fl := range []Flavor{Shipped, Sections} {
			o, err := tr.Compile(t.Context(), Job{TU: u, Flavor: fl})
			if err != nil {
				t.Fatal(err)
			}
			again, err := tr.Compile(t.Context(), Job{TU: u, Flavor: fl})
			if err != nil || !again.Cached || again.Path != o.Path {
				t.Errorf("%s again: %+v, %v", src, again, err)
			}
			t.Logf("%s %s: %v (cached %v), then %v", src, fl, o.Took.Round(time.Millisecond), o.Cached, again.Took.Round(time.Millisecond))
			sections := code(t, o.Path)
			if _, ok := sections[".orc_unwind"]; !ok {
				t.Errorf("%s: objtool did not run: %d sections", src, len(sections))
			}
			if _, ok := sections[".text.meminfo_proc_show"]; src == meminfo && ok != (fl == Sections) {
				t.Errorf("%s: a section for each function: %v", fl, ok)
			}
		}
	}
	// A change that is none gives the object that is there: where the overlay
	// lies makes no difference.
	u := tu(t, tr, meminfo)
	plain, err := tr.Compile(t.Context(), Job{TU: u, Flavor: Sections})
	if err != nil {
		t.Fatal(err)
	}
	ov := overlay(t, tr, map[string][]byte{meminfo: edit(t, tr, meminfo, "MemTotal", "MemTotal")})
	same, err := tr.Compile(t.Context(), Job{TU: u, Flavor: Sections, Overlay: ov})
	if err != nil || same.Key != plain.Key || !same.Cached {
		t.Errorf("unchanged under an overlay: %+v, %v", same, err)
	}
	ov = overlay(t, tr, map[string][]byte{meminfo: edit(t, tr, meminfo, "MemTotal", "LpTotal!")})
	other, err := tr.Compile(t.Context(), Job{TU: u, Flavor: Sections, Overlay: ov})
	if err != nil || other.Key == plain.Key {
		t.Fatalf("changed: %+v, %v", other, err)
	}
	b, _ := os.ReadFile(other.Path)
	if !bytes.Contains(b, []byte("LpTotal!")) || bytes.Contains(b, []byte(ov.Root)) {
		t.Error("the object has not the change, or names the overlay")
	}
	// Other flags, other object.
	extra, err := tr.Compile(t.Context(), Job{TU: u, Flavor: Sections, ExtraFlags: []string{"-O1"}})
	if err != nil || extra.Key == plain.Key || code(t, extra.Path)[".text.meminfo_proc_show"] == code(t, plain.Path)[".text.meminfo_proc_show"] {
		t.Errorf("-O1: %v", err)
	}
	if _, err := tr.Compile(t.Context(), Job{TU: u, Flavor: "none"}); err == nil {
		t.Error("no such flavor: no error")
	}
}

// __FILE__ must read as it does in the shipped binary, overlay or not.
func TestRealFileMacro(t *testing.T) {
	tr := realTree(t)
	const src = "drivers/net/ethernet/intel/e1000/e1000_hw.c"
	ov := overlay(t, tr, map[string][]byte{src: append(edit(t, tr, src, "", ""), []byte("\nconst char *lupatch_file = __FILE__;\n")...)})
	o, err := tr.Compile(t.Context(), Job{TU: tu(t, tr, src), Flavor: Shipped, Overlay: ov})
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, b := range code(t, o.Path) {
		found = found || strings.Contains(b, "\x00"+src+"\x00") || strings.HasPrefix(b, src+"\x00")
	}
	if !found {
		t.Error("__FILE__ is not relative to the tree")
	}
}

func TestRealCompileError(t *testing.T) {
	tr := realTree(t)
	u := tu(t, tr, meminfo)
	ov := overlay(t, tr, map[string][]byte{meminfo: edit(t, tr, meminfo, "return 0;", "return no_such_thing;")})
	_, err := tr.Compile(t.Context(), Job{TU: u, Flavor: Shipped, Overlay: ov})
	wantRefusal(t, err, refuse.CompileFailed, "no_such_thing")
	var ce *CompileError
	if !errors.As(err, &ce) || !strings.Contains(ce.Log, "fs/proc/meminfo.c:") || strings.Contains(ce.Log, ov.Root) || ce.Source != meminfo {
		t.Errorf("%+v", ce)
	}
	// The user's own typing error must not start half a minute of make prepare.
	ov = overlay(t, tr, map[string][]byte{meminfo: edit(t, tr, meminfo, "#include <linux/fs.h>", "#include <linux/fs_none.h>")})
	begin := time.Now()
	_, err = tr.Compile(t.Context(), Job{TU: u, Flavor: Shipped, Overlay: ov})
	wantRefusal(t, err, refuse.CompileFailed, "linux/fs_none.h")
	if time.Since(begin) > 10*time.Second {
		t.Errorf("it took %v to say so", time.Since(begin))
	}
	if objs, err := tr.CompileAll(t.Context(), []Job{{TU: u, Flavor: Shipped}, {TU: u, Flavor: Shipped, Overlay: ov}}); err == nil || objs != nil {
		t.Error("one of two fails: no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tr.Compile(ctx, Job{TU: u, Flavor: Shipped}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
