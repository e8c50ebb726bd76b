// SPDX-License-Identifier: Apache-2.0

package kpatch_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/lupatch/lupatch/internal/refuse"
)

func TestSeesAllTasks(t *testing.T) {
	const initial, other = "pid:[4026531836]", "pid:[4026532211]"
	for _, c := range []struct {
		self, first, part string
	}{
		{"", "", ""},
		{initial, initial, ""},
		{initial, "", ""},
		{other, other, "this process is in"},
		{other, initial, "this process is in"},
		{initial, other, "/proc is that of"},
	} {
		k, _ := host(t)
		for who, ns := range map[string]string{"self": c.self, "1": c.first} {
			if ns == "" {
				continue
			}
			dir := k.Path("/proc", who, "ns")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(ns, filepath.Join(dir, "pid")); err != nil {
				t.Fatal(err)
			}
		}
		err := k.SeesAllTasks()
		if c.part == "" {
			if err != nil {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		wantRefusal(t, err, refuse.PIDNamespace, c.part)
	}
}

func TestEnforces(t *testing.T) {
	const lockdown, enforce = "/sys/kernel/security/lockdown", "/sys/module/module/parameters/sig_enforce"
	for _, c := range []struct{ lockdown, enforce, want string }{
		{"", "", ""},
		{"[none] integrity confidentiality\n", "N\n", ""},
		{"none [integrity] confidentiality\n", "N\n", "it is locked down (integrity)"},
		{"none integrity [confidentiality]\n", "", "it is locked down (confidentiality)"},
		{"[none] integrity confidentiality\n", "Y\n", "it enforces signatures (module.sig_enforce)"},
		{"", "Y\n", "it enforces signatures (module.sig_enforce)"},
	} {
		k, _ := host(t)
		for path, text := range map[string]string{lockdown: c.lockdown, enforce: c.enforce} {
			if text == "" {
				continue
			}
			if err := os.MkdirAll(filepath.Dir(k.Path(path)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(k.Path(path), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := k.Enforces(); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
