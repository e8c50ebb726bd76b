// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// licensed says whether one of the first three lines names a licence.
func licensed(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for n := 0; n < 3 && s.Scan(); n++ {
		if strings.Contains(s.Text(), "SPDX-License-Identifier: ") {
			return true, nil
		}
	}
	return false, s.Err()
}

func TestSPDX(t *testing.T) {
	n := 0
	files(t, func(path string) {
		switch filepath.Ext(path) {
		case ".go", ".c", ".h", ".S", ".sh":
		default:
			return
		}
		n++
		ok, err := licensed(filepath.Join("..", "..", path))
		if err != nil {
			t.Error(err)
		} else if !ok {
			t.Errorf("%s has no SPDX line in its first three lines", path)
		}
	})
	if n < 50 {
		t.Errorf("only %d files were looked at", n)
	}
	bare := filepath.Join(t.TempDir(), "x.c")
	if err := os.WriteFile(bare, []byte("int x;\n\n\n// SPDX-License-Identifier: GPL-2.0-only\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if ok, err := licensed(bare); ok || err != nil {
		t.Error("a line further down was taken", err)
	}
}
