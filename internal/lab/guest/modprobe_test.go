// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lupatch/lupatch/internal/kmodule"
)

// TestSoftDependencies: what is loaded, in what order, and what stops it.
func TestSoftDependencies(t *testing.T) {
	const dep = "k/fs.ko: k/lib.ko k/base.ko\nk/lib.ko: k/base.ko\nk/base.ko:\nk/sum-one.ko: k/base.ko\nk/sum-two.ko:\nk/after.ko: k/fs.ko k/lib.ko k/base.ko\nk/ring-a.ko:\nk/ring-b.ko:\n"
	const soft = "softdep lib pre: crypto-sum nowhere builtin\nsoftdep fs post: after\nsoftdep ring_a pre: ring_b\nsoftdep ring_b pre: ring-a\n"
	const alias = "alias crypto-sum sum_one\nalias crypto-sum sum_two\nalias crypto-* after\nalias other base\n"
	for _, c := range []struct {
		name, load, refuses, want string
		err                       error
	}{
		{"before and after", "fs", "", "base sum-one sum-two lib fs=x after", nil},
		{"a soft dependency refuses", "lib", "sum-one", "base sum-two lib=x", nil},
		{"a soft dependency to follow refuses", "fs", "after", "base sum-one sum-two lib fs=x", nil},
		{"a real one refuses", "fs", "lib", "base sum-one sum-two", unix.ENODEV},
		{"it refuses itself", "fs", "fs", "base sum-one sum-two lib", unix.ENODEV},
		{"a circle", "ring_a", "", "ring-b ring-a=x", nil},
		{"part of the kernel", "builtin", "", "", nil},
		{"nowhere", "nowhere", "", "", unix.ENOENT},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			p := &prober{dir: "/m", dep: dep, builtin: "k/builtin.ko\n", soft: kmodule.ParseSoftdep(soft), aliases: alias, begun: map[string]bool{}}
			p.insmod = func(path, params string) error {
				name := strings.TrimSuffix(filepath.Base(path), ".ko")
				switch {
				case name == c.refuses:
					return unix.ENODEV
				case params != "":
					name += "=" + params
				}
				got = append(got, name)
				if name == "base" {
					return unix.EEXIST // was there
				}
				return nil
			}
			if err := p.load(c.load, "x"); !errors.Is(err, c.err) {
				t.Errorf("got %v, want %v", err, c.err)
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("loaded %q, want %q", s, c.want)
			}
		})
	}
}
