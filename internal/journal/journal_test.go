// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func states(t *testing.T, path string) (out []State) {
	t.Helper()
	list, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if r.Time.IsZero() {
			t.Error("a record without time")
		}
		out = append(out, r.State)
	}
	return out
}

func add(t *testing.T, path string, s State) {
	t.Helper()
	j, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if err := j.Append(Record{Change: "c", Kind: "apply", State: s}); err != nil {
		t.Fatal(err)
	}
}

func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "var/lib/x/journal")
	if got := states(t, path); got != nil {
		t.Fatal(got)
	}
	add(t, path, Begin)
	add(t, path, Done)
	// A crash in the middle of a line, wherever it is.
	whole, _ := os.ReadFile(path)
	torn := append(bytes.Clone(whole), `{"time":"2026-01-02T03:04:05Z","change":"c","kind":"apply","state":"undo`...)
	for n := len(whole) + 1; n <= len(torn); n++ {
		if err := os.WriteFile(path, torn[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]State{Begin, Done}, states(t, path)); d != "" {
			t.Fatal(d)
		}
		add(t, path, Committed)
		if d := cmp.Diff([]State{Begin, Done, Committed}, states(t, path)); d != "" {
			t.Fatal(d)
		}
	}
}

func TestDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	add(t, path, Begin)
	b, _ := os.ReadFile(path)
	for name, bad := range map[string]string{"not json": "what\n", "no record": "{}\n", "long": strings.Repeat(" ", MaxLine) + "\n"} {
		list, err := Decode([]byte(string(b) + bad + string(b)))
		if err == nil || len(list) != 1 || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%s: %d records, %v", name, len(list), err)
		}
	}
	j, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if err := j.Append(Record{Change: "c", State: Done, Detail: strings.Repeat("x", MaxLine)}); err == nil {
		t.Error("a record was written that cannot be read")
	}
	if d := cmp.Diff([]State{Begin}, states(t, path)); d != "" {
		t.Fatal(d)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("x", MaxLine+2)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil {
		t.Error("a file that is no journal was cut off")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"time":"2026-01-02T03:04:05Z","change":"c","kind":"apply","state":"undo"}` + "\n"))
	f.Add([]byte("{}\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, _ := Decode(b)
		for _, r := range list {
			line, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := Decode(append(line, '\n')); err != nil || len(again) != 1 {
				t.Fatalf("%s: %v", line, err)
			}
		}
	})
}
