// SPDX-License-Identifier: Apache-2.0

package build_test

import (
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
)

// A refused layout says all that differs and who is concerned, and the code it
// gives builds as it stands.
func TestLayoutHelp(t *testing.T) {
	const at = "static int e1000_change_mtu(struct net_device *netdev, int new_mtu)\n{\n\tstruct e1000_adapter *adapter = netdev_priv(netdev);\n"
	_, err := attempt(t, diffOf(t,
		edit{e1000H, "\tu32 bd_number;\n", "\tu32 bd_number;\n\tspinlock_t mtu_lock;\n\tconst char *const mtu_who[3];\n\tint (*mtu_hook)(struct net_device *dev, int mtu, ...);\n\tu8 mtu_flag : 3;\n"},
		edit{e1000C, at, at + "\tadapter->mtu_flag = 1;\n"}))
	refusal{refuse.StructLayout, "e1000_adapter", []string{"bytes in the running kernel"}}.check(t, err)
	e, _ := refuse.As(err)
	for _, want := range []string{
		"field mtu_lock of struct e1000_adapter is new", "field mtu_flag of struct e1000_adapter is new", "and 63 more",
		"\tspinlock_t mtu_lock;\n", "\tint (*mtu_hook)(struct net_device *, int, ...);\n", "\tu8 mtu_flag : 3;\n",
		"e1000_main.c (e1000): ", "e1000_param.c (e1000): ", "e1000 is a network driver.", "not in this version",
	} {
		if !strings.Contains(e.Help, want) {
			t.Errorf("the help does not say %q\n%s", want, e.Help)
		}
	}
	_, code, _ := strings.Cut(e.Help, "Code to start from:\n\n")
	code, _, ok := strings.Cut(code, "\nFunctions that use")
	if !ok {
		t.Fatal("there is no code in the help")
	}
	res, err := attempt(t, diffOf(t, edit{e1000C, at, code + at + "\tstruct e1000_adapter_shadow *more = e1000_adapter_shadow(adapter);\n\n\tif (more)\n\t\tmore->mtu_flag = 1;\n"}))
	if err != nil {
		t.Fatal(err)
	}
	want := manifest.Callback{Kind: "post_unpatch", Function: "e1000_adapter_shadow_drop", File: e1000C}
	if u := res.Manifest.Units[0]; len(u.Callbacks) != 1 || u.Callbacks[0] != want {
		t.Errorf("callbacks %v, want %v", u.Callbacks, want)
	}
	readUpdate(t, res).check(t)
}
