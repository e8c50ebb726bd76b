// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// flash is an empty store as the package has it, with room for n bytes.
func flash(n int) []byte {
	b := bytes.Repeat([]byte{erasedFlash}, 72+28+n)
	copy(b[16:], guidFlash[:])
	binary.LittleEndian.PutUint16(b[48:], 72)
	copy(b[72:], guidStore[:])
	binary.LittleEndian.PutUint32(b[72+16:], uint32(28+n))
	return b
}

// That firmware reads what is written here is seen in package live.
func TestAddVariables(t *testing.T) {
	list := variables([][]byte{[]byte("a certificate"), []byte("another")}, true)
	if len(list) != 3 || len(variables([][]byte{[]byte("x")}, false)) != 1 {
		t.Fatal(list)
	}
	b := flash(1000)
	if err := addVariables(b, list); err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		if n := bytes.Count(b, v.vendor[:]); n < 1 || !bytes.Contains(b, v.data) {
			t.Errorf("%s is not there", v.name)
		}
	}
	if n := bytes.Count(b, []byte{0xaa, 0x55, 0x3f, 0}); n != 3 {
		t.Errorf("%d variables", n)
	}
	for name, c := range map[string]struct {
		flash []byte
		part  string
	}{
		"no room":     {flash(250), "no room for KEK"},
		"not empty":   {b, "no room for db"},
		"not a flash": {make([]byte, 1000), "no flash volume"},
		"cut":         {flash(1000)[:80], "no store"},
		"nothing":     {nil, "no flash volume"},
	} {
		if err := addVariables(c.flash, list); err == nil || !strings.Contains(err.Error(), c.part) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKernelSigners(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"empty": "", "text": "no kernel", "MZ": "MZ" + strings.Repeat("\x00", 500)} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if list, err := kernelSigners(path); err == nil {
			t.Errorf("%s: %v", name, list)
		}
	}
}
