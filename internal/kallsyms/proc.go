// SPDX-License-Identifier: Apache-2.0

package kallsyms

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxProcLine bounds a line of /proc/kallsyms: KSYM_NAME_LEN is 512 since 6.1,
// plus an address, a type and a module name of at most 56 characters.
const maxProcLine = 4096

// ReadProc reads text in the form of /proc/kallsyms. If every address is zero
// the error is ErrRestricted.
func ReadProc(r io.Reader) (*Table, error) {
	var (
		syms    []Symbol
		nonzero bool
		modules = map[string]string{}
		line    int
	)
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, maxProcLine), maxProcLine)
	for sc.Scan() {
		line++
		s, err := procLine(sc.Bytes(), modules)
		if err != nil {
			return nil, fmt.Errorf("reading /proc/kallsyms, line %d: %w", line, err)
		}
		nonzero = nonzero || s.Addr != 0
		syms = append(syms, s)
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("reading /proc/kallsyms, line %d: %w", line+1, err)
	}
	if len(syms) == 0 {
		return nil, fmt.Errorf("reading /proc/kallsyms: %w: it is empty", ErrNoTables)
	}
	if !nonzero {
		return nil, fmt.Errorf("reading /proc/kallsyms: %w", ErrRestricted)
	}
	return NewTable(syms), nil
}

// procLine reads "ADDRESS TYPE NAME" or "ADDRESS TYPE NAME\t[MODULE]".
func procLine(b []byte, modules map[string]string) (Symbol, error) {
	addr, rest, ok1 := bytes.Cut(b, []byte{' '})
	typ, rest, ok2 := bytes.Cut(rest, []byte{' '})
	if !ok1 || !ok2 || len(typ) != 1 || len(addr) == 0 || len(addr) > 16 {
		return Symbol{}, fmt.Errorf("not a symbol: %q", b)
	}
	v, err := strconv.ParseUint(string(addr), 16, 64)
	if err != nil {
		return Symbol{}, fmt.Errorf("not an address: %q", addr)
	}
	name, mod, has := bytes.Cut(rest, []byte{'\t'})
	s := Symbol{Addr: v, Type: typ[0], Name: string(name)}
	if s.Name == "" || strings.ContainsAny(s.Name, " []") {
		return Symbol{}, fmt.Errorf("not a name: %q", name)
	}
	if has {
		if len(mod) < 3 || mod[0] != '[' || mod[len(mod)-1] != ']' {
			return Symbol{}, fmt.Errorf("not a module: %q", mod)
		}
		m := string(mod[1 : len(mod)-1])
		// One copy of each name: there are hundreds of symbols per module.
		if _, ok := modules[m]; !ok {
			modules[m] = m
		}
		s.Module = modules[m]
	}
	return s, nil
}
