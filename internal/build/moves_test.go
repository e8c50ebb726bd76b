// SPDX-License-Identifier: Apache-2.0

package build_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/sample"
)

const (
	ucs2C   = "lib/ucs2_string.c"
	xarrayC = "lib/xarray.c"
)

var (
	// ucs2Edit changes a function that others of its file have inlined, which have
	// callers of their own.
	ucs2Edit   = edit{ucs2C, "        while (*s++ != 0 && length < maxlength)\n", "\twhile (length < maxlength && *s++ != 0)\n"}
	xarrayEdit = edit{xarrayC, "\tif (xas->xa_shift + XA_CHUNK_SHIFT > order)\n\t\treturn;\n\n\tdo {\n", "\tif (xas->xa_shift + XA_CHUNK_SHIFT > order)\n\t\treturn;\n\n\tif (xas->xa->xa_flags & XA_FLAGS_ACCOUNT)\n\t\tgfp |= __GFP_ACCOUNT;\n\n\tdo {\n"}
)

var moved = []struct {
	name  string
	edits []edit
	// want are the functions redirected, added those that are new.
	want, added  []string
	review, note []string
}{
	// One of the callers changes too; the other's file is not in the patch.
	{"of the kernel", []edit{xarrayEdit, {"mm/filemap.c", "\tVM_BUG_ON_FOLIO(!folio_test_locked(folio), folio);\n\tVM_BUG_ON_FOLIO(folio_test_swapbacked(folio), folio);\n", "\tif (!folio)\n\t\treturn -EINVAL;\n"}},
		[]string{"vmlinux:__filemap_add_folio", "vmlinux:split_huge_page_to_list"}, []string{"vmlinux:xas_split_alloc"},
		[]string{"xas_split_alloc is exported and has no ftrace site", "no module from elsewhere"},
		[]string{"xas_split_alloc has no ftrace site: its 2 callers in mm/filemap.c, mm/huge_memory.c are replaced to call the new version"}},
	{"of modules, and further up", []edit{ucs2Edit},
		[]string{"efi_pstore:efi_pstore_read_func", "efibc:efibc_reboot_notifier_call", "efivarfs:efivar_init", "efivarfs:efivar_validate", "efivarfs:efivarfs_callback", "efivarfs:validate_load_option",
			"gsmi:gsmi_get_next_variable", "gsmi:gsmi_get_variable", "gsmi:gsmi_set_variable", "hv_netvsc:rndis_get_friendly_name",
			"vmlinux:efi_thunk_get_variable", "vmlinux:efi_thunk_set_variable", "vmlinux:efi_thunk_set_variable_nonblocking", "vmlinux:efivar_set_variable_locked"},
		[]string{"vmlinux:ucs2_as_utf8", "vmlinux:ucs2_strlen", "vmlinux:ucs2_strnlen", "vmlinux:ucs2_strsize"},
		[]string{"ucs2_strsize is exported and has no ftrace site"},
		[]string{"ucs2_strlen has no ftrace site: its caller in drivers/firmware/efi/efibc.c (efibc) is replaced"}},
}

func TestUntracedMoved(t *testing.T) {
	realTree(t)
	for _, c := range moved {
		t.Run(c.name, func(t *testing.T) {
			sample.Of(t, 2)
			t.Parallel()
			res := accept(t, c.edits)
			if d := cmp.Diff(c.want, redirected(res)); d != "" {
				t.Errorf("redirected functions (-want +got):\n%s", d)
			}
			var added []string
			for _, u := range res.Manifest.Units {
				for _, f := range u.Functions {
					if f.New {
						added = append(added, u.Name+":"+f.Name)
					}
				}
			}
			slices.Sort(added)
			if d := cmp.Diff(c.added, added); d != "" {
				t.Errorf("new functions (-want +got):\n%s", d)
			}
			checkSaid(t, res, c.review, c.note)
			// What its callers call would be for each later update to know.
			patch := diffOf(t, edit{versionC, showFrom, showFrom + "\tseq_puts(m, \"more\\n\");\n"})
			_, err := attempt(t, patch, func(o *build.Options) { o.On, o.Name = []string{res.Path}, "later" })
			refusal{refuse.EarlierUpdate, res.Manifest.Moved[0], []string{"nothing is built on that"}}.check(t, err)
		})
	}
}

var notMoved = []struct {
	name    string
	edits   []edit
	options []func(*build.Options)
	want    refusal
}{
	{"another file takes the address", []edit{{"lib/iov_iter.c", "\tcopied = copy_to_iter(addr, bytes, i);\n\tsg_init_one(&sg, addr, copied);\n", "\tcopied = copy_to_iter(addr, bytes, i);\n\tif (!copied)\n\t\treturn 0;\n\tsg_init_one(&sg, addr, copied);\n"}}, nil,
		refusal{refuse.NoFtraceSite, "hash_and_copy_to_iter", []string{"skb_copy_and_hash_datagram_iter does more than call it"}}},
	{"init code of modules calls it", []edit{{"lib/textsearch.c", "\tif (ops->name == NULL || ops->find == NULL ||", "\tif (!ops || ops->name == NULL || ops->find == NULL ||"}}, nil,
		refusal{refuse.NoFtraceSite, "textsearch_register", []string{"does more than call it, or is not replaced"}}},
	{"assembly calls it", []edit{{"kernel/trace/fgraph.c", "\ttrace.rettime = trace_clock_local();\n", "\ttrace.rettime = trace_clock_local() + !frame_pointer;\n"}}, nil,
		refusal{refuse.NoFtraceSite, "ftrace_return_to_handler", []string{"arch/x86/kernel/ftrace_64.S is assembly"}}},
	{"too many files", []edit{ucs2Edit}, []func(*build.Options){func(o *build.Options) { o.MaxUnits = 2 }},
		refusal{refuse.NoFtraceSite, "ucs2_as_utf8", []string{"10 more files that may call it", "at most 2 are"}}},
}

func TestUntracedNotMoved(t *testing.T) {
	realTree(t)
	for _, c := range notMoved {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			sample.Of(t, 2)
			_, err := attempt(t, diffOf(t, c.edits...), c.options...)
			c.want.check(t, err)
		})
	}
}
