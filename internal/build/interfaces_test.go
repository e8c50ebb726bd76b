// SPDX-License-Identifier: Apache-2.0

package build_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/sample"
)

const (
	garpC    = "net/802/garp.c"
	garpH    = "include/net/garp.h"
	gvrpC    = "net/8021q/vlan_gvrp.c"
	ethtoolC = "drivers/net/ethernet/intel/e1000/e1000_ethtool.c"
	utilC    = "fs/proc/util.c"
)

// The exported function's new prototype, in header and source.
var (
	initHeader = edit{garpH, "int garp_init_applicant(struct net_device *dev, struct garp_application *app);", "int garp_init_applicant(struct net_device *dev, struct garp_application *app, int most);"}
	initSource = edit{garpC, "int garp_init_applicant(struct net_device *dev, struct garp_application *appl)\n{", "int garp_init_applicant(struct net_device *dev, struct garp_application *appl, int most)\n{"}
	initBody   = edit{garpC, "\terr = dev_mc_add(dev, appl->proto.group_address);\n", "\terr = most ? dev_mc_add(dev, appl->proto.group_address) : -EINVAL;\n"}
	initCaller = edit{gvrpC, "\treturn garp_init_applicant(dev, &vlan_gvrp_app);\n", "\treturn garp_init_applicant(dev, &vlan_gvrp_app, 1);\n"}
	// unseen takes the header's declaration out of the source's sight: it then
	// compiles against no other.
	unseen = edit{garpC, "#include <net/garp.h>\n", "#define garp_init_applicant garp_init_applicant_of_old\n#include <net/garp.h>\n#undef garp_init_applicant\n"}
)

// slotEdits change what a member of a structure points to, and all that is put
// there.
var slotEdits = []edit{
	{e1000H, "\t\t\t     struct e1000_rx_ring *rx_ring,\n\t\t\t     int cleaned_count);\n", "\t\t\t     struct e1000_rx_ring *rx_ring,\n\t\t\t     long cleaned_count);\n"},
	{e1000C, "\t\t\t\t\t int cleaned_count)\n{\n}\n", "\t\t\t\t\t long cleaned_count)\n{\n}\n"},
	{e1000C, "static void e1000_alloc_rx_buffers(struct e1000_adapter *adapter,\n\t\t\t\t   struct e1000_rx_ring *rx_ring,\n\t\t\t\t   int cleaned_count);", "static void e1000_alloc_rx_buffers(struct e1000_adapter *adapter,\n\t\t\t\t   struct e1000_rx_ring *rx_ring,\n\t\t\t\t   long cleaned_count);"},
	{e1000C, "\t\t\t\t\t int cleaned_count);\n", "\t\t\t\t\t long cleaned_count);\n"},
	{e1000C, "\t\t\t     struct e1000_rx_ring *rx_ring, int cleaned_count)\n{\n", "\t\t\t     struct e1000_rx_ring *rx_ring, long cleaned_count)\n{\n"},
	{e1000C, "\t\t\t\t   struct e1000_rx_ring *rx_ring,\n\t\t\t\t   int cleaned_count)\n{\n", "\t\t\t\t   struct e1000_rx_ring *rx_ring,\n\t\t\t\t   long cleaned_count)\n{\n"}}

var acceptedInterfaces = []struct {
	name  string
	edits []edit
	want  []string // functions redirected
	// said are words of one line of the review, or of one note.
	review, note []string
}{
	{"of a module, used by another", []edit{initHeader, initSource, initBody, initCaller},
		[]string{"8021q:vlan_gvrp_init_applicant", "garp:garp_init_applicant"},
		[]string{"garp_init_applicant is exported", "from int (struct net_device *, struct garp_application *) to int (struct net_device *, struct garp_application *, int)", "no module from elsewhere"}, nil},
	{"of files of one module", []edit{
		{e1000H, "bool e1000_has_link(struct e1000_adapter *adapter);", "bool e1000_has_link(struct e1000_adapter *adapter, bool ask);"},
		{e1000C, "bool e1000_has_link(struct e1000_adapter *adapter)\n{\n", "bool e1000_has_link(struct e1000_adapter *adapter, bool ask)\n{\n\tif (!ask)\n\t\treturn netif_carrier_ok(adapter->netdev);\n\n"},
		{e1000C, "\tlink = e1000_has_link(adapter);\n", "\tlink = e1000_has_link(adapter, true);\n"},
		{ethtoolC, "\treturn e1000_has_link(adapter);\n", "\treturn e1000_has_link(adapter, false);\n"}},
		[]string{"e1000:e1000_get_link", "e1000:e1000_has_link", "e1000:e1000_watchdog"}, nil, nil},
	// More of the types that exports name becomes known, which alters their
	// checksums and nothing else.
	{"one more header", []edit{
		{garpC, "#include <net/garp.h>\n", "#include <net/garp.h>\n#include <linux/phy.h>\n"},
		{garpC, "\terr = -ENOMEM;\n\tapp = kzalloc(sizeof(*app), GFP_KERNEL);\n", "\terr = -ENOBUFS;\n\tapp = kzalloc(sizeof(*app), GFP_KERNEL);\n"}},
		[]string{"garp:garp_init_applicant"}, nil, []string{garpC + ": the checksums of its exports would be others (garp_init_applicant, garp_register_application, garp_request_join and 3 more)"}},
	// The structure's layout stays.
	{"slot of a structure", slotEdits,
		nil, []string{"member alloc_rx_buf of struct e1000_adapter", "struct e1000_rx_ring *, int) to", "struct e1000_rx_ring *, long)"}, nil},
}

func hasLine(lines, words []string) bool {
	return words == nil || slices.ContainsFunc(lines, func(l string) bool {
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(l, w) })
	})
}

func TestInterfacesAccepted(t *testing.T) {
	realTree(t)
	for _, c := range acceptedInterfaces {
		t.Run(c.name, func(t *testing.T) {
			sample.Of(t, 2)
			t.Parallel()
			res := accept(t, c.edits)
			got := redirected(res)
			if d := cmp.Diff(c.want, got); d != "" && c.want != nil {
				t.Errorf("redirected functions (-want +got):\n%s", d)
			}
			if len(got) == 0 {
				t.Error("nothing is redirected")
			}
			checkSaid(t, res, c.review, c.note)
		})
	}
}

// Plain kbuild builds and links each of these without a word.
var refusedInterfaces = []struct {
	name  string
	edits []edit
	want  refusal
	help  []string
}{
	{"a module that uses it is not in the patch", []edit{unseen, initSource, initBody},
		refusal{refuse.ExportCRC, "garp_init_applicant", []string{"would change from 0x", "not all that use it follow: " + gvrpC + " (8021q)"}},
		[]string{"with the patch it is int (struct net_device *, struct garp_application *, int)"}},
	{"a module that uses it sees the old declaration", []edit{unseen, initSource, initBody,
		{gvrpC, "\tif (vlan->vlan_proto != htons(ETH_P_8021Q))\n\t\treturn 0;\n", "\tif (!vlan_id || vlan->vlan_proto != htons(ETH_P_8021Q))\n\t\treturn 0;\n"}},
		refusal{refuse.ExportCRC, "garp_init_applicant", []string{gvrpC + " (8021q), which declares it otherwise"}}, nil},
	{"another file of the module uses it", []edit{
		{e1000C, `#include "e1000.h"` + "\n", "#define e1000_has_link e1000_has_link_of_old\n#include \"e1000.h\"\n#undef e1000_has_link\nbool e1000_has_link(struct e1000_adapter *adapter, bool ask);\n"},
		{e1000C, "bool e1000_has_link(struct e1000_adapter *adapter)\n{\n", "bool e1000_has_link(struct e1000_adapter *adapter, bool ask)\n{\n\tif (!ask)\n\t\treturn netif_carrier_ok(adapter->netdev);\n\n"},
		{e1000C, "\tlink = e1000_has_link(adapter);\n", "\tlink = e1000_has_link(adapter, true);\n"}},
		refusal{refuse.Signature, "e1000_has_link", []string{ethtoolC + " (e1000)"}},
		[]string{"The running kernel has _Bool (struct e1000_adapter *)"}},
	{"other files of the kernel use it", []edit{
		{utilC, `#include "internal.h"` + "\n", "#define name_to_int name_to_int_of_old\n#include \"internal.h\"\n#undef name_to_int\n"},
		{utilC, "unsigned name_to_int(const struct qstr *qstr)\n", "unsigned name_to_int(const struct qstr *qstr, unsigned most)\n"},
		{utilC, "\t\tif (c > 9)\n", "\t\tif (c > 9 || c > most)\n"}},
		refusal{refuse.Signature, "name_to_int", []string{"fs/proc/base.c, fs/proc/fd.c, fs/proc/generic.c"}}, nil},
	// All callers are in the patch, but one has run, and runs again when the
	// module is loaded under the update.
	{"called by a module's init code", []edit{
		{garpH, "int garp_register_application(struct garp_application *app);", "int garp_register_application(struct garp_application *app, int first);"},
		{garpC, "int garp_register_application(struct garp_application *appl)\n{\n", "int garp_register_application(struct garp_application *appl, int first)\n{\n\tif (first > 7)\n\t\treturn -EINVAL;\n"},
		{gvrpC, "\treturn garp_register_application(&vlan_gvrp_app);\n", "\treturn garp_register_application(&vlan_gvrp_app, 3);\n"}},
		refusal{refuse.Signature, "garp_register_application", []string{"vlan_gvrp_init of 8021q calls it when the module is loaded"}}, nil},
	{"a module's init code and a slot", append(slotEdits[:len(slotEdits):len(slotEdits)], edit{e1000C, "\tpr_info(\"%s\\n\", e1000_driver_string);\n", "\tpr_notice(\"%s\\n\", e1000_driver_string);\n"}),
		refusal{refuse.Signature, "member alloc_rx_buf of struct e1000_adapter", []string{"init_module of e1000 runs when the module is loaded"}}, nil},
}

func TestInterfacesRefused(t *testing.T) {
	realTree(t)
	for _, c := range refusedInterfaces {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			sample.Of(t, 2)
			_, err := attempt(t, diffOf(t, c.edits...))
			c.want.check(t, err)
			e, _ := refuse.As(err)
			for _, h := range c.help {
				if !strings.Contains(e.Help, h) {
					t.Errorf("the help does not say %q: %s", h, e.Help)
				}
			}
		})
	}
}
