// SPDX-License-Identifier: Apache-2.0

package build_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/diff"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/sample"
)

// A source that goes from one version to the next.
type series struct {
	t     *testing.T
	files map[string]string
	on    []string
	opt   func(*build.Options) // may be nil
}

func newSeries(t *testing.T, files ...string) *series {
	s := &series{t: t, files: map[string]string{}}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(realTree(t).Src, f))
		if err != nil {
			t.Fatal(err)
		}
		s.files[f] = string(b)
	}
	return s
}

// patch gives the difference that the edits make to the source as it is now.
func (s *series) patch(edits ...edit) (patch []byte, files map[string]string) {
	s.t.Helper()
	files = map[string]string{}
	for f, text := range s.files {
		files[f] = text
	}
	for _, e := range edits {
		if n := strings.Count(files[e.file], e.old); n != 1 {
			s.t.Fatalf("%q occurs %d times in %s", e.old, n, e.file)
		}
		files[e.file] = strings.Replace(files[e.file], e.old, e.new, 1)
	}
	for f, text := range files {
		if text != s.files[f] {
			_, d, _ := strings.Cut(string(diff.Diff("a/"+f, []byte(s.files[f]), "b/"+f, []byte(text))), "\n")
			patch = append(patch, "diff --git a/"+f+" b/"+f+"\n"+d...)
		}
	}
	return patch, files
}

func (s *series) attempt(name string, edits ...edit) (*build.Result, error) {
	s.t.Helper()
	patch, _ := s.patch(edits...)
	return attempt(s.t, patch, func(o *build.Options) {
		o.On, o.Name = s.on, name
		if s.opt != nil {
			s.opt(o)
		}
	})
}

// step builds the next update and goes on from there.
func (s *series) step(name string, want []string, edits ...edit) *build.Result {
	s.t.Helper()
	res, err := s.attempt(name, edits...)
	if err != nil {
		s.t.Fatal(err)
	}
	if d := cmp.Diff(want, redirected(res)); d != "" {
		s.t.Errorf("%s: redirected functions (-want +got):\n%s", name, d)
	}
	for _, r := range res.Manifest.Units[0].Relocations {
		if !r.Exported {
			readUpdate(s.t, res).check(s.t)
			break
		}
	}
	_, s.files = s.patch(edits...)
	s.on = append(s.on, res.Path)
	return res
}

const (
	mtuFrom  = "static int e1000_change_mtu(struct net_device *netdev, int new_mtu)\n{\n"
	showFrom = "static int version_proc_show(struct seq_file *m, void *v)\n{\n"
)

// Each update is built on all before it, within and across units.
func TestOn(t *testing.T) {
	t.Parallel()
	s := newSeries(t, versionC, e1000C, e1000H, xarrayC)
	first := s.step("first", []string{"vmlinux:version_proc_show"},
		edit{versionC, showFrom, "static int version_lines;\n\nstatic noinline void version_more(struct seq_file *m)\n{\n\tseq_puts(m, \"more\\n\");\n}\n\n" + showFrom + "\tversion_lines++;\n\tversion_more(m);\n"})
	second := s.step("second", []string{"e1000:e1000_change_mtu"}, edit{e1000C, mtuFrom, mtuFrom + "\tif (new_mtu == 1234)\n\t\treturn -EINVAL;\n"})
	// The other function of the file stays as the second has it.
	third := s.step("third", []string{"e1000:e1000_update_itr"}, edit{e1000C, "\tunsigned int retval = itr_setting;\n", "\tunsigned int retval = itr_setting + 1;\n"})
	fourth := s.step("fourth", []string{"e1000:e1000_change_mtu"}, edit{e1000C, "new_mtu == 1234", "new_mtu == 1235"})
	for i, res := range []*build.Result{first, second, third, fourth} {
		m := res.Manifest
		if u := m.Units[0]; u.Needs != []int{0, 0, 1, 2}[i] || u.Gives != u.Needs+1 || len(m.On) != i || len(m.Source.Files) != 1 {
			t.Errorf("%s: %s from %d to %d, on %v, files %v", m.Name, u.Name, u.Needs, u.Gives, m.On, m.Source.Files)
		}
	}
	if on := fourth.Manifest.On; on[0].Update != "first" || on[2].Update != "third" {
		t.Errorf("%+v", on)
	}
	// What the first has added is in its module: code is copied, a variable not.
	res, err := s.attempt("fifth", edit{versionC, "\tseq_puts(m, \"more\\n\");\n", "\tseq_puts(m, \"even more\\n\");\n"})
	refusal{refuse.EarlierUpdate, "version_lines", []string{"only its module holds it"}}.check(t, err)
	// Nothing but the same again.
	_, err = s.attempt("fifth", edit{e1000C, mtuFrom, "/* a word */\n" + mtuFrom})
	wantRefusal(t, err, refuse.NothingChanged)
	if res != nil {
		t.Error("a refusal came with a result")
	}
	_, err = s.attempt("fifth", xarrayEdit)
	refusal{refuse.EarlierUpdate, "xas_split_alloc", []string{"that is not done on top of other updates"}}.check(t, err)
	// Back to what is shipped: the shipped code again, as a new version.
	s.step("sixth", []string{"e1000:e1000_change_mtu"}, edit{e1000C, "\tif (new_mtu == 1235)\n\t\treturn -EINVAL;\n", ""})

	all := s.on
	bad := func(id refuse.ID, part string, on ...string) {
		t.Helper()
		s.on = on
		_, err := s.attempt("last", edit{e1000C, "static int debug = -1;\n", "static int debug = -1; /* */\n"})
		wantRefusal(t, err, id, part)
	}
	bad(refuse.WrongVersion, "stands on the update first", all[1:]...)
	bad(refuse.WrongVersion, "which is not given before it", all[1], all[0])
	bad(refuse.FunctionConflict, "two updates of this name", all[0], all[0])
	old := filepath.Join(t.TempDir(), "no.ko")
	if err := os.WriteFile(old, []byte("no module"), 0o600); err != nil {
		t.Fatal(err)
	}
	bad(refuse.NotAnUpdate, "not an ELF file", old)
}

// A header changes, and changes back: the files that read it follow both times,
// although the second patch touches none of them.
func TestOnHeader(t *testing.T) {
	t.Parallel()
	sample.OnlyThorough(t, "TestOn has updates on others, TestAccepted a header")
	s := newSeries(t, e1000H)
	want := []string{"e1000:e1000_check_options", "e1000:e1000_get_ringparam", "e1000:e1000_set_ringparam"}
	s.step("first", want, edit{e1000H, "#define E1000_MAX_TXD\t\t\t256\n", "#define E1000_MAX_TXD\t\t\t200\n"})
	res := s.step("second", want, edit{e1000H, "#define E1000_MAX_TXD\t\t\t200\n", "#define E1000_MAX_TXD\t\t\t256\n"})
	if u := res.Manifest.Units[0]; u.Needs != 1 || u.Gives != 2 {
		t.Errorf("%+v", u)
	}
}

// A file that has to be compiled so that it reads static keys of its module, and a
// clone that this changes.
func TestOnKeys(t *testing.T) {
	t.Parallel()
	const gssC = "net/sunrpc/auth_gss/auth_gss.c"
	s := newSeries(t, gssC)
	want := []string{"auth_rpcgss:gss_unwrap_resp_priv"}
	const check = "\tif (offset + opaque_len > rcv_buf->len)\n"
	s.step("first", want, edit{gssC, check, "\tif (offset > rcv_buf->len || opaque_len > rcv_buf->len - offset)\n"})
	res := s.step("second", want, edit{gssC, "offset > rcv_buf->len ||", "offset >= rcv_buf->len ||"})
	if len(res.Notes) == 0 || !strings.Contains(strings.Join(res.Notes, " "), "static keys are read at run time") {
		t.Errorf("this shows nothing about static keys: %q", res.Notes)
	}
}

// The patch of a base has to be the whole truth about it.
func TestOnAltered(t *testing.T) {
	t.Parallel()
	s := newSeries(t, versionC)
	s.step("first", []string{"vmlinux:version_proc_show"}, edit{versionC, showFrom, showFrom + "\tseq_puts(m, \"one \");\n"})
	file, m, err := manifest.ReadModule(s.on[0])
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.attempt("first", edit{versionC, "one ", "two "})
	wantRefusal(t, err, refuse.FunctionConflict, "its own name")
	other := []byte(strings.Replace(string(file), `"release": "`+m.Release, `"release": "6.1.0-46-amd64`, 1))
	if other, err = manifest.Seal(other); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.on[0], other, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = s.attempt("second", edit{versionC, "one ", "two "})
	wantRefusal(t, err, refuse.WrongRelease, "6.1.0-46-amd64")
}

// One update that has all of three, and code that another file of an earlier one
// added.
func TestCumulative(t *testing.T) {
	t.Parallel()
	sample.OnlyThorough(t, "TestChain of package live builds one, and applies it")
	const hwC, ethtoolC = "drivers/net/ethernet/intel/e1000/e1000_hw.c", "drivers/net/ethernet/intel/e1000/e1000_ethtool.c"
	const hwFrom = "s32 e1000_reset_hw(struct e1000_hw *hw)\n{\n"
	const ringFrom = "\tint i, err;\n\n\tif ((ring->rx_mini_pending) || (ring->rx_jumbo_pending))\n"
	s := newSeries(t, versionC, e1000C, e1000H, hwC, ethtoolC)
	s.step("first", []string{"e1000:e1000_change_mtu"},
		edit{hwC, hwFrom, "bool e1000_odd_size(int n)\n{\n\treturn n == 1234;\n}\n\n" + hwFrom},
		edit{e1000H, "#define E1000_MAX_TXD\t\t\t256\n", "bool e1000_odd_size(int n);\n#define E1000_MAX_TXD\t\t\t256\n"},
		edit{e1000C, mtuFrom, mtuFrom + "\tif (e1000_odd_size(new_mtu))\n\t\treturn -EINVAL;\n"})
	s.step("second", []string{"vmlinux:version_proc_show"}, edit{versionC, showFrom, showFrom + "\tseq_puts(m, \"one \");\n"})
	third := []edit{{ethtoolC, ringFrom, strings.Replace(ringFrom, "\tif (", "\tif (e1000_odd_size(ring->rx_pending))\n\t\treturn -EINVAL;\n\tif (", 1)}}
	_, err := s.attempt("third", third...)
	refusal{refuse.EarlierUpdate, "e1000_odd_size", []string{"in another file"}}.check(t, err)
	s.opt = func(o *build.Options) { o.Cumulative = true }
	res := s.step("third", []string{"e1000:e1000_change_mtu", "e1000:e1000_set_ringparam", "vmlinux:version_proc_show"}, third...)
	m := res.Manifest
	if !m.Cumulative || len(m.On) != 2 || len(m.Source.Files) != 5 {
		t.Errorf("cumulative %v, on %v, files %v", m.Cumulative, m.On, m.Source.Files)
	}
	for _, u := range m.Units {
		if u.Needs != 1 || u.Gives != 2 {
			t.Errorf("%s from %d to %d", u.Name, u.Needs, u.Gives)
		}
	}
}
