// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Export is an exported symbol as Module.symvers lists it.
type Export struct {
	CRC uint32
	// Module is the exporter's path ("vmlinux", "drivers/net/mdio").
	Module string
	// GPL says that only modules under the GPL may use it.
	GPL bool
	// Namespace is what MODULE_IMPORT_NS has to name; mostly empty.
	Namespace string
}

// ModuleSymvers lists the symbols that the kernel and its modules export. It is
// empty for a tree that has not been built.
func (t *Tree) ModuleSymvers() (map[string]Export, error) {
	t.symOnce.Do(func() { t.symvers, t.symErr = readSymvers(filepath.Join(t.Obj, "Module.symvers")) })
	return t.symvers, t.symErr
}

func readSymvers(file string) (map[string]Export, error) {
	out := map[string]Export{}
	f, err := os.Open(file)
	if os.IsNotExist(err) {
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading exported symbols: %w", err)
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for line := 1; sc.Scan(); line++ {
		// CRC, symbol, module, kind and, since 5.4, namespace.
		w := strings.Split(sc.Text(), "\t")
		if len(w) < 4 {
			return nil, fmt.Errorf("reading exported symbols: %s:%d: %q", file, line, sc.Text())
		}
		crc, err := strconv.ParseUint(w[0], 0, 32)
		if err != nil {
			return nil, fmt.Errorf("reading exported symbols: %s:%d: %w", file, line, err)
		}
		e := Export{CRC: uint32(crc), Module: w[2], GPL: strings.HasSuffix(w[3], "_GPL")}
		if len(w) > 4 {
			e.Namespace = w[4]
		}
		out[w[1]] = e
	}
	return out, sc.Err()
}
