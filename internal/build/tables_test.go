// SPDX-License-Identifier: Apache-2.0

package build

import (
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/elfobj"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/patchgen"
)

func TestNameOf(t *testing.T) {
	for in, want := range map[string]string{
		"fix.patch":                            "lupatch_fix",
		"/a/b/0001-net-Fix.patch":              "lupatch_0001_net_fix",
		"x.diff":                               "lupatch_x",
		"lupatch_x.patch":                      "lupatch_x",
		"ÄÖ ü-1.patch":                         "lupatch_1",
		".patch":                               "lupatch",
		"no-suffix":                            "lupatch_no_suffix",
		strings.Repeat("long-", 40) + ".patch": "",
	} {
		got := nameOf(in)
		if want != "" && got != want {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
		if !ValidName(got) || len(got) > manifest.MaxName {
			t.Errorf("%q gives %q, which is no name", in, got)
		}
	}
	for _, bad := range []string{"", "1a", "_a", "A", "a-b", "a b", "a/b", strings.Repeat("a", manifest.MaxName+1)} {
		if ValidName(bad) {
			t.Errorf("%q is taken for a name", bad)
		}
	}
}

func TestTables(t *testing.T) {
	units := []unitObject{
		{name: "e1000", funcs: []tableFunc{{"e1000_up", 0, "lupatch_new_0_0", patchgen.Digest{Sum: 0xabc, Size: 64, Mask: []patchgen.Range{{From: 4, To: 9}}}}, {"x.part.0", 2, "lupatch_new_0_1", patchgen.Digest{Size: 8}}}},
		{name: "vmlinux", funcs: []tableFunc{{"f", 0, "lupatch_new_1_0", patchgen.Digest{Size: 5}}}},
	}
	got := tables("6.1.0-1-amd64", units, true, false, []string{"USB"})
	for _, want := range []string{
		"#define LUPATCH_STAYS 1\n", `MODULE_INFO(import_ns, "USB");`,
		"extern char lupatch_new_0_0[];", "lupatch_masks_0_0[] = { { 4, 9 }, { 0, 0 } };",
		"{ .sum = 0xabcULL, .size = 64, .nr_masks = 1, .masks = lupatch_masks_0_0 }",
		`{ .old_name = "x.part.0", .old_sympos = 2, .new_func = lupatch_new_0_1 }`,
		`{ .name = "e1000", .funcs = lupatch_funcs_0,`, `{ .name = NULL, .funcs = lupatch_funcs_1,`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in\n%s", want, got)
		}
	}
	if strings.Contains(got, "LUPATCH_PIN_TARGETS") || !strings.Contains(tables("6.1.0-1-amd64", units, false, true, nil), "#define LUPATCH_PIN_TARGETS 1\n") {
		t.Error("targets are pinned where they need not be, or not where they must")
	}
}

func TestBuildID(t *testing.T) {
	note := func(data string) *elfobj.File {
		return &elfobj.File{Sections: []*elfobj.Section{{Name: ".note.gnu.build-id", Data: []byte(data)}}}
	}
	for data, want := range map[string]string{
		"\x04\x00\x00\x00\x03\x00\x00\x00\x03\x00\x00\x00GNU\x00\x01\x02\xff": "0102ff",
		"\x04\x00\x00\x00\x03\x00\x00\x00\x01\x00\x00\x00GNU\x00\x01\x02\xff": "",
		"\x04\x00\x00\x00\x04\x00\x00\x00\x03\x00\x00\x00GNU\x00\x01\x02\xff": "",
		"\xff\xff\xff\xff\xff\xff\xff\xff\x03\x00\x00\x00GNU\x00\x01\x02\xff": "",
		"\x04\x00": "",
	} {
		if got := buildID(note(data)); got != want {
			t.Errorf("%q gives %q, want %q", data, got, want)
		}
	}
	if got := buildID(&elfobj.File{}); got != "" {
		t.Errorf("%q of nothing", got)
	}
}

func TestImageCompilerText(t *testing.T) {
	for banner, want := range map[string]string{
		"Linux version 6.1.0-47-amd64 (x@y) (gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40) #1": "GCC: (Debian 12.2.0-14+deb12u1) 12.2.0",
		"Linux version 6.1.0 (x@y) (clang version 14.0.6, LLD 14.0.6) #1":                                                         "",
	} {
		m := gccVersion.FindStringSubmatch(banner)
		got := ""
		if m != nil {
			_, rest, _ := strings.Cut(m[1], " ")
			got = "GCC: " + rest
		}
		if got != want {
			t.Errorf("%q gives %q, want %q", banner, got, want)
		}
	}
}
