// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/lab/labtest"
)

// lupatch runs the real program.
func lupatch(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(labtest.Context(t), labtest.Lupatch(t), args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func run(args ...string) []string {
	return append([]string{"lab", "run", "--unpacked", "--kernel", labtest.Release}, args...)
}

func TestLabCLI(t *testing.T) {
	t.Parallel()
	labtest.SkipIfShort(t)
	file := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(file, []byte("carried\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name       string
		stdin      string
		args       []string
		code       int
		out, errs  string
		outIsExact bool
	}{
		{"command", "typed\n", run("--nic", "e1000", "--module", "loop", "--file", file+":/root/x", "--", "sh", "-c",
			"cat - /root/x; grep -c -e ^e1000 -e ^loop /proc/modules; lupatch --version >/dev/null && echo inside; echo bad >&2; exit 9"),
			9, "typed\ncarried\n2\ninside\n", "bad", true},
		{"fault", "", run("--", "sh", "-c", "echo '<4>BUG: made up' > /dev/kmsg"), 1, "", "BUG: made up", true},
		{"panic", "", run("--", "sh", "-c", "echo c > /proc/sysrq-trigger"), 1, "", "sysrq triggered crash", true},
		{"no such kernel", "", []string{"lab", "run", "--kernel", "6.1.0-9999-amd64", "--", "true"}, 3, "", "source-unavailable", true},
		{"no command", "", run(), 2, "", "no command given", true},
		{"bad file", "", run("--file", "x", "--", "true"), 2, "", "HOSTFILE:/GUEST/FILE", true},
		{"bad card", "", run("--nic", "x", "--", "true"), 1, "", "virtio-net-pci", true},
		{"help", "", []string{"lab", "run", "--help"}, 0, "EXAMPLES", "", false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := lupatch(t, c.stdin, c.args...)
			if code != c.code || !strings.Contains(errs, c.errs) || c.outIsExact && out != c.out || !strings.Contains(out, c.out) {
				t.Errorf("status %d, output %q, errors %q", code, out, errs)
			}
		})
	}
}

// What is unpacked lies where it was linked to.
func TestLabCLIJSON(t *testing.T) {
	t.Parallel()
	labtest.SkipIfShort(t)
	code, out, errs := lupatch(t, "", run("--json", "--timeout", "1s", "--", "sh", "-c", "uname -r; grep -m1 -w _text /proc/kallsyms; echo bad >&2; sleep 100")...)
	var res struct {
		Kernel, Accel, Stdout, Stderr, Error string
		Exit                                 int
		Faults                               []any
		Boot                                 float64 `json:"boot_seconds"`
	}
	if err := json.Unmarshal([]byte(out), &res); err != nil {
		t.Fatalf("%v: %q, %q", err, out, errs)
	}
	if code != 124 || res.Exit != 124 || res.Kernel != labtest.Release || res.Stdout != labtest.Release+"\nffffffff81000000 T _text\n" || res.Stderr != "bad\n" ||
		!strings.Contains(res.Error, "killed after 1s") || res.Faults == nil || len(res.Faults) != 0 || res.Boot <= 0 {
		t.Errorf("status %d: %s", code, out)
	}
}
