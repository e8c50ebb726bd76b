// SPDX-License-Identifier: Apache-2.0

package build_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/sample"
)

var accepted = []struct {
	name  string
	edits []edit
	// functions that have to be redirected, and no others
	want []string
	// sections that the module has to have besides the usual
	sections []string
}{
	// Functions below the change pass __LINE__ on and would all differ.
	{"line numbers", []edit{{"fs/ext4/mmp.c", "\tif (*bh)\n\t\tclear_buffer_uptodate(*bh);\n", "\t/* Block 0 is\n\t * the boot block.\n\t */\n\tif (!mmp_block)\n\t\treturn -EFSCORRUPTED;\n\n\tif (*bh)\n\t\tclear_buffer_uptodate(*bh);\n"}},
		[]string{"ext4:read_mmp_block"}, nil},
	{"header of a driver", []edit{{e1000H, "#define E1000_MAX_TXD\t\t\t256\n", "#define E1000_MAX_TXD\t\t\t200\n"}},
		[]string{"e1000:e1000_check_options", "e1000:e1000_get_ringparam", "e1000:e1000_set_ringparam"}, nil},
	{"header of the network stack", []edit{{"include/net/tcp.h", "static inline u32 tcp_rto_min_us(struct sock *sk)\n{", "static inline u32 tcp_rto_min_us(struct sock *sk)\n{\n\tif (!sk)\n\t\treturn 0;\n"}},
		[]string{"vmlinux:tcp_ack_update_rtt", "vmlinux:tcp_schedule_loss_probe.part.0"}, nil},
	// Reading static keys instead changes the code of a clone that it calls.
	{"clone with a tracepoint", []edit{{"net/sunrpc/auth_gss/auth_gss.c", "\tif (offset + opaque_len > rcv_buf->len)\n", "\tif (offset > rcv_buf->len || opaque_len > rcv_buf->len - offset)\n"}},
		[]string{"auth_rpcgss:gss_unwrap_resp_priv"}, nil},
	{"many special sections", []edit{{"net/ipv4/tcp_ipv4.c", "\tif (unlikely(th->doff < sizeof(struct tcphdr) / 4)) {\n\t\tdrop_reason = SKB_DROP_REASON_PKT_TOO_SMALL;\n", "\tif (unlikely(th->doff < 1 + sizeof(struct tcphdr) / 4)) {\n\t\tdrop_reason = SKB_DROP_REASON_PKT_TOO_SMALL;\n"}},
		[]string{"vmlinux:tcp_v4_rcv"}, []string{"__jump_table", ".smp_locks", ".static_call_sites"}},
	{"alternatives and paravirt", []edit{{"arch/x86/kernel/process_64.c", "\tcase ARCH_GET_FS: {\n\t\tunsigned long base = x86_fsbase_read_task(task);\n", "\tcase ARCH_GET_FS: {\n\t\tunsigned long base = x86_fsbase_read_task(task) & ~1UL;\n"}},
		[]string{"vmlinux:do_arch_prctl_64"}, []string{".altinstructions", ".parainstructions", "__ex_table"}},
}

func TestAccepted(t *testing.T) {
	realTree(t)
	for _, c := range accepted {
		t.Run(c.name, func(t *testing.T) {
			sample.Of(t, 2)
			t.Parallel()
			res, err := attempt(t, diffOf(t, c.edits...))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, redirected(res)); d != "" {
				t.Errorf("redirected functions (-want +got):\n%s", d)
			}
			m := readUpdate(t, res)
			for _, s := range c.sections {
				if m.obj.Section(s) == nil {
					t.Errorf("the module has no section %s", s)
				}
			}
			m.check(t)
		})
	}
}

// redirected lists the functions that an update replaces as unit:name.
func redirected(res *build.Result) (out []string) {
	for _, u := range res.Manifest.Units {
		for _, f := range u.Functions {
			if !f.New {
				out = append(out, u.Name+":"+f.Name)
			}
		}
	}
	slices.Sort(out)
	return out
}

// A patch as it comes by mail, made of two trees and for lines that have moved
// since.
func TestMailedPatch(t *testing.T) {
	git := string(diffOf(t,
		edit{meminfoC, "\tif (cached < 0)\n", "\tif (cached < 1)\n"},
		edit{meminfoC, `	show_val_kb(m, "AnonPages:      ",`, "\tseq_puts(m, \"\");\n" + `	show_val_kb(m, "AnonPages:      ",`}))
	if n := strings.Count(git, "\n@@ "); n != 2 {
		t.Fatalf("%d hunks", n)
	}
	_, plain, _ := strings.Cut(git, "\n")
	plain = strings.Replace(plain, "--- a/", "--- src/linux-6.1.orig/", 1)
	plain = strings.Replace(plain, "+++ b/", "+++ src/linux-6.1/", 1)
	plain = strings.ReplaceAll(plain, "\n@@ -", "\n@@ -1") // 47 becomes 147
	mail := []byte("From 1234 Mon Sep 17 00:00:00 2001\nFrom: A B <a@b.example>\nSubject: [PATCH v2 1/3] proc: count\n less\n\nFixes CVE-2026-12345.\n---\n fs/proc/meminfo.c | 3 +--\n\n" + plain + "-- \n2.39.5\n\n")
	res, err := attempt(t, mail)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"vmlinux:meminfo_proc_show"}, redirected(res)); d != "" {
		t.Error(d)
	}
	src := res.Manifest.Source
	if src.Subject != "proc: count less" || !slices.Equal(src.CVE, []string{"CVE-2026-12345"}) || !slices.Equal(src.Files, []string{meminfoC}) || src.Version == "" {
		t.Errorf("%+v", src)
	}
	readUpdate(t, res).check(t)
	file, m, err := manifest.ReadModule(res.Path)
	if err != nil {
		t.Fatal(err)
	}
	if patch, err := manifest.Patch(file, m); err != nil || !bytes.Equal(patch, mail) {
		t.Errorf("the update carries a patch of %d bytes, want the %d of the file; %v", len(patch), len(mail), err)
	}
}
