// SPDX-License-Identifier: Apache-2.0

package runpre

import (
	"fmt"
	"testing"

	"github.com/lupatch/lupatch/internal/refuse"
)

// A function that nothing refers to, alone in its section and with namesakes,
// has no place of its own; it is one of them, or it is a mismatch.
func TestModuleUnplaced(t *testing.T) {
	unit := func(n, factor int) string {
		return fmt.Sprintf("static int __attribute__((cold, used, noinline)) dead(int x) { return x * %d; }\nint used%d(int x) { return x + %d; }\n", factor, n, n)
	}
	a, b := object(t, "a", unit(1, 12345)), object(t, "b", unit(2, 12345))
	ko := link(t, a, b)
	r, err := Module("m", read(t, a), ko)
	verified(t, r, err, 2)
	_, err = r.LocateModule(ko, "dead", true)
	refused(t, err, refuse.AmbiguousSymbol, "2 symbols of module m")

	other := object(t, "other", unit(1, 54321))
	if r, err = Module("m", read(t, other), ko); err != nil {
		t.Fatal(err)
	}
	if len(r.Mismatches) != 1 || r.Mismatches[0].Function != "dead" || r.Verified != 1 {
		t.Errorf("%d verified, %+v", r.Verified, r.Mismatches)
	}
}
