// SPDX-License-Identifier: Apache-2.0

// Package systemd holds lupatch's units; there is nothing but their test in it.
package systemd

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnits has systemd read the units, where it is installed, and in any case checks
// that what they start is a command of this lupatch.
func TestUnits(t *testing.T) {
	var files []string
	for _, kind := range []string{"*.service", "*.timer"} {
		list, err := filepath.Glob(kind)
		if err != nil || len(list) == 0 {
			t.Fatal(kind, list, err)
		}
		files = append(files, list...)
	}
	dir := t.TempDir()
	bin := filepath.Join(dir, "lupatch")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", bin, "../../cmd/lupatch").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var copies []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			command, ok := strings.CutPrefix(strings.TrimSpace(line), "ExecStart=/usr/sbin/lupatch ")
			if !ok {
				continue
			}
			// Without root nothing is done; a word that it does not know is exit code 2.
			cmd := exec.Command(bin, append(strings.Fields(command), "--dry-run", "--nonsense")...)
			out, _ := cmd.CombinedOutput()
			if !bytes.Contains(out, []byte("not defined: -nonsense")) {
				t.Errorf("%s: %s: %s", f, command, out)
			}
		}
		path := filepath.Join(dir, f)
		if err := os.WriteFile(path, bytes.ReplaceAll(text, []byte("/usr/sbin/lupatch"), []byte(bin)), 0o644); err != nil {
			t.Fatal(err)
		}
		copies = append(copies, path)
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("there is no systemd-analyze here")
		return
	}
	if out, err := exec.Command(analyze, append([]string{"verify"}, copies...)...).CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}
