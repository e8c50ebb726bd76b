// SPDX-License-Identifier: Apache-2.0

package build

import (
	"strings"
	"testing"

	"github.com/lupatch/lupatch/patchgen"
)

func TestParseDataRule(t *testing.T) {
	rule := func(file, name string, a patchgen.DataAction) DataRule {
		return DataRule{File: file, DataRule: patchgen.DataRule{Name: name, Action: a}}
	}
	for in, want := range map[string]DataRule{
		"write@pre":            rule("", "", patchgen.DataPre),
		"keep":                 rule("", "", patchgen.DataKeep),
		"limit=write@post":     rule("", "limit", patchgen.DataPost),
		"file.c:limit=keep":    rule("file.c", "limit", patchgen.DataKeep),
		"fs/file.c:limit=keep": rule("fs/file.c", "limit", patchgen.DataKeep),
	} {
		if got, err := ParseDataRule(in); err != nil || got != want {
			t.Errorf("%q gives %v, %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "limit", "limit=", "=keep", "limit=write", "limit=write@now", ":limit=keep", "f.c:=keep", "f.c:keep=", "WRITE@PRE"} {
		if got, err := ParseDataRule(bad); err == nil {
			t.Errorf("%q gives %v", bad, got)
		}
	}
	r := rule("file.c", "x", patchgen.DataKeep)
	if !r.matches("fs/file.c") || !r.matches("file.c") || r.matches("fs/profile.c") || !rule("", "x", patchgen.DataKeep).matches("any.c") {
		t.Error("a rule is for other files than it names")
	}
}

func TestTablesOfDataAndCallbacks(t *testing.T) {
	write := patchgen.DataChange{Name: "limit", Action: patchgen.DataPost, Alias: "lupatch_new_0_data0", Size: 8, Parts: []patchgen.Range{{From: 4, To: 8}}}
	units := []unitObject{{name: "e1000", writes: []patchgen.DataChange{write}, callbacks: [][]patchgen.Callback{
		{{Kind: "pre_patch", Name: "a", Alias: "lupatch_new_0_callback0"}}, {{Kind: "post_unpatch", Name: "b", Alias: "lupatch_new_1_callback3"}},
	}}}
	got := tables("6.1.0-1-amd64", units, false, false, nil)
	for _, want := range []string{
		"extern int lupatch_new_0_callback0(struct klp_object *obj);\n", "extern void lupatch_new_1_callback3(struct klp_object *obj);\n",
		"{ .pre_patch = lupatch_new_0_callback0, },\n\t{ .post_unpatch = lupatch_new_1_callback3, },\n",
		"{ .from = 4, .size = 4, .found = lupatch_found_0_0_0 },", `.name = "limit", .value = &lupatch_new_0_data0,`, ".read_only = 0, .post = 1 }",
		".nr_callbacks = 2,", ".nr_writes = 1 }",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in\n%s", want, got)
		}
	}
	for _, c := range []struct {
		unit               string
		readOnly           bool
		definesRO, defines bool
	}{{"vmlinux", false, false, false}, {"vmlinux", true, true, false}, {"e1000", true, true, true}, {"e1000", false, false, true}} {
		w := write
		w.ReadOnly = c.readOnly
		units := []unitObject{{name: c.unit, writes: []patchgen.DataChange{w}}}
		text := config(units)
		if strings.Contains(text, "LUPATCH_READ_ONLY") != c.definesRO || strings.Contains(text, "LUPATCH_MODULE_DATA") != c.defines {
			t.Errorf("%+v: %s", c, text)
		}
		if n := len(templateNeeds(units)); n != map[bool]int{true: 3}[c.definesRO]+map[bool]int{true: 1}[c.defines] {
			t.Errorf("%+v: %d symbols needed", c, n)
		}
	}
}
