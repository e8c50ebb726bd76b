// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// symver is how genksyms prints a checksum: for the .cmd file since 5.19, before
// that as a linker script.
var symver = regexp.MustCompile(`(?m)^(?:#SYMVER |__crc_)(\S+)(?: | = )(0x[0-9a-fA-F]+)`)

// ExportCRC computes the checksums (CRC) of the symbols that a file exports, as
// the kernel's build does: a changed one breaks every module that uses the
// symbol. It is empty if the kernel has no CONFIG_MODVERSIONS.
func (t *Tree) ExportCRC(ctx context.Context, tu *TU, ov *Overlay) (map[string]uint32, error) {
	out := map[string]uint32{}
	if !t.Config.Enabled("CONFIG_MODVERSIONS") {
		return out, nil
	}
	text, _, err := t.invoke(tu, ov, []string{"-D__GENKSYMS__"}).preprocess(ctx)
	if err != nil {
		return nil, err
	}
	if ov != nil {
		// A name in an error message is all that paths are for here.
		text = bytes.ReplaceAll(text, []byte(ov.Root+"/"), []byte(t.Src+"/"))
	}
	tool := filepath.Join(tu.Obj, "scripts/genksyms/genksyms")
	cmd := exec.CommandContext(ctx, tool, "-r", "/dev/null")
	cmd.Dir, cmd.Env = tu.Obj, cleanEnv()
	cmd.Stdin = bytes.NewReader(text)
	var log bytes.Buffer
	cmd.Stderr = &log
	b, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("computing checksums of the symbols that %s exports: %w: %s", tu.Source, err, firstErrors(log.String(), 3))
	}
	for _, m := range symver.FindAllSubmatch(b, -1) {
		v, err := strconv.ParseUint(string(m[2]), 0, 32)
		if err != nil {
			return nil, fmt.Errorf("computing checksums of the symbols that %s exports: %w", tu.Source, err)
		}
		out[string(m[1])] = uint32(v)
	}
	return out, nil
}
