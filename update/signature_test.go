// SPDX-License-Identifier: Apache-2.0

package update_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/sign"
	"github.com/lupatch/lupatch/kpatch/kpatchtest"
	"github.com/lupatch/lupatch/update"
)

// put writes a file of the host.
func (h *host) put(path string, text string) {
	h.t.Helper()
	full := filepath.Join(h.Root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// minisigner makes a key, which the host trusts.
func (h *host) minisigner() *sign.Key {
	h.t.Helper()
	g, err := sign.Generate(filepath.Join(h.t.TempDir(), "k"), "k", "")
	if err != nil {
		h.t.Fatal(err)
	}
	pub, err := os.ReadFile(g.Public)
	if err != nil {
		h.t.Fatal(err)
	}
	h.put(filepath.Join(sign.TrustedDir, "k.pub"), string(pub))
	k, err := sign.ReadKey(g.Secret, "", nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return k
}

// signed writes an update file with the signatures wanted.
func (h *host) signed(m *manifest.Manifest, pkcs7 bool, key *sign.Key) string {
	h.t.Helper()
	path := h.file(m)
	image := kpatchtest.Module(m)
	if pkcs7 {
		image = kpatchtest.Sign(image)
	}
	if err := os.WriteFile(path, image, 0o600); err != nil {
		h.t.Fatal(err)
	}
	if key != nil {
		sig, err := key.SignMinisign(image, "")
		if err != nil {
			h.t.Fatal(err)
		}
		if err := os.WriteFile(path+sign.MinisigSuffix, sig, 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
	return path
}

func TestSignaturePolicy(t *testing.T) {
	h := newHost(t)
	key := h.minisigner()
	bare, both := h.signed(fix(), false, nil), h.signed(fix(), true, key)
	onlyKernel, onlyMinisig := h.signed(fix(), true, nil), h.signed(fix(), false, key)
	try := func(file string) error {
		_, err := h.Apply(t.Context(), []string{file}, update.Options{})
		if err == nil {
			if _, err := h.Rollback(t.Context(), "", update.Options{}); err != nil {
				t.Fatal(err)
			}
		}
		return err
	}
	const ok = refuse.ID("")
	h.put(filepath.Join(sign.TrustedDir, "kernel.der"), string(kpatchtest.Certificate()))
	for require, want := range map[string][4]refuse.ID{
		// of bare, kernel, minisign, both
		"none":     {ok, ok, ok, ok},
		"kernel":   {refuse.SignatureMissing, ok, refuse.SignatureMissing, ok},
		"minisign": {refuse.SignatureMissing, refuse.SignatureMissing, ok, ok},
		"any":      {refuse.SignatureMissing, ok, ok, ok},
		"both":     {refuse.SignatureMissing, refuse.SignatureMissing, refuse.SignatureMissing, ok},
	} {
		h.put(sign.PolicyPath, "require = "+require+"\n")
		for i, file := range []string{bare, onlyKernel, onlyMinisig, both} {
			before := len(h.journal())
			err := try(file)
			if want[i] == ok {
				if err != nil {
					t.Errorf("%s, file %d: %v", require, i, err)
				}
				continue
			}
			refused(t, err, want[i], file)
			h.clean()
			if n := len(h.journal()); n != before {
				t.Errorf("%s, file %d: the journal has %d records more", require, i, n-before)
			}
		}
	}
	if err := os.Remove(filepath.Join(h.Root, sign.TrustedDir, "k.pub")); err != nil {
		t.Fatal(err)
	}
	h.put(sign.PolicyPath, "require = both\n")
	refused(t, try(both), refuse.SignatureUntrusted, "minisign")
	h.put(sign.PolicyPath, "require = bith\n")
	refused(t, try(both), refuse.PolicyWrong, "bith")
	h.clean()
}

// A signature that does not fit is refused whatever is required; so is one that
// the kernel would miss. Without any there is a warning.
func TestSignatureWithoutPolicy(t *testing.T) {
	h := newHost(t)
	key := h.minisigner()
	r, err := h.Apply(t.Context(), []string{h.file(fix())}, update.Options{DryRun: true})
	if err != nil || len(r[0].Warnings) != 1 || !strings.Contains(r[0].Warnings[0], "nobody signed it") {
		t.Fatal(r, err)
	}
	path := h.signed(fix(), false, key)
	if r, err = h.Apply(t.Context(), []string{path}, update.Options{DryRun: true}); err != nil || len(r[0].Warnings) != 0 {
		t.Fatal(r, err)
	}
	other := fix()
	other.Source.Subject = "something else"
	if err := os.WriteFile(path, kpatchtest.Module(other), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = h.Apply(t.Context(), []string{path}, update.Options{})
	refused(t, err, refuse.SignatureWrong, "belongs to another")
	h.clean()
	h.put("/sys/module/module/parameters/sig_enforce", "Y\n")
	_, err = h.Apply(t.Context(), []string{h.file(fix())}, update.Options{})
	refused(t, err, refuse.SignatureMissing, "the kernel takes only modules signed")
	h.clean()
	if v, err := h.Verify(path); err != nil || v.Refused == nil || v.Refused.ID != refuse.SignatureWrong || len(v.Signatures) != 1 {
		t.Fatal(v, err)
	}
}

// The store has the signature as long as it has the update.
func TestSignatureIsStored(t *testing.T) {
	h := newHost(t)
	path := h.signed(fix(), true, h.minisigner())
	h.put(sign.PolicyPath, "require = minisign\n")
	if _, err := h.Apply(t.Context(), []string{path}, update.Options{}); err != nil {
		t.Fatal(err)
	}
	stored := h.Store.Path("fix_mtu")
	if v, err := h.Verify(stored); err != nil || v.Refused != nil {
		t.Fatal(v, err)
	}
	image, err := os.ReadFile(stored)
	if err != nil {
		t.Fatal(err)
	}
	if want, err := os.ReadFile(path); err != nil || !bytes.Equal(image, want) {
		t.Fatal("another file was stored", err)
	}
	if _, err := h.Rollback(t.Context(), "", update.Options{}); err != nil {
		t.Fatal(err)
	}
	h.clean()
	if list, err := os.ReadDir(h.Store.Dir); err != nil || len(list) != 0 {
		t.Fatal(list, err)
	}
	// One without a signature does not inherit that of an earlier one.
	if err := os.WriteFile(stored+sign.MinisigSuffix, []byte("left over"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.put(sign.PolicyPath, "require = none\n")
	if _, err := h.Apply(t.Context(), []string{h.file(fix())}, update.Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(stored + sign.MinisigSuffix); !os.IsNotExist(err) {
		t.Fatal(err)
	}
}

func TestPIDNamespace(t *testing.T) {
	h := newHost(t)
	h.mustApply(fix())
	dir := filepath.Join(h.Root, "proc/self/ns")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("pid:[4026532211]", filepath.Join(dir, "pid")); err != nil {
		t.Fatal(err)
	}
	_, err := h.Rollback(t.Context(), "", update.Options{})
	refused(t, err, refuse.PIDNamespace, "PID namespace")
	_, err = h.apply(kpatchtest.Manifest("other", "e1000", "e1000_up"), update.Options{})
	refused(t, err, refuse.PIDNamespace, "PID namespace")
	s, err := h.Status(t.Context())
	if err != nil || len(s.Updates) != 1 {
		t.Fatal(s, err)
	}
}
