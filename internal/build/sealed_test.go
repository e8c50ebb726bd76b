// SPDX-License-Identifier: Apache-2.0

package build_test

import (
	"testing"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/lab/labtest"
	"github.com/lupatch/lupatch/internal/refuse"
)

// TestSealedFunction passes the address of a function of the kernel on that is
// otherwise only called directly. Where IBT seals it, that is refused; a call,
// and the address of one that many take, are not.
func TestSealedFunction(t *testing.T) {
	needKernel(t)
	const text = "static int version_proc_show(struct seq_file *m, void *v)\n{\n"
	taken := func(declare, statement string) []byte {
		return diffOf(t, edit{versionC, text, declare + "\n" + text + "\t" + statement + "\n"})
	}
	pointer := taken("void ksys_sync(void);", `seq_printf(m, "%ps\n", ksys_sync);`)
	onLater := func(o *build.Options) { o.Release = labtest.Backport(t) }
	_, err := attempt(t, pointer, onLater)
	refusal{refuse.SealedFunction, "version_proc_show", []string{"ksys_sync", "address"}}.check(t, err)
	if _, err := attempt(t, pointer); err != nil {
		t.Errorf("without IBT: %v", err)
	}
	for what, patch := range map[string][]byte{
		"a call":              taken("void ksys_sync(void);", "ksys_sync();"),
		"an exported address": taken("", `seq_printf(m, "%ps\n", seq_putc);`),
	} {
		if _, err := attempt(t, patch, onLater); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}
