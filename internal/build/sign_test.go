// SPDX-License-Identifier: Apache-2.0

package build_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/build"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/sign"
)

func ecdsaKey(t *testing.T) *sign.Key {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "curve"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return sign.NewKernelKey(key, cert)
}

// A build signs what it made with both keys, in place of what an earlier build
// left, and not with a key that the kernel cannot verify.
func TestBuildSigns(t *testing.T) {
	needKernel(t)
	dir := t.TempDir()
	g, err := sign.Generate(filepath.Join(dir, "ops"), "ops", "")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := sign.ReadKeys([]string{g.Secret, g.Private}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	patch := filepath.Join(dir, "fix.patch")
	if err := os.WriteFile(patch, diffOf(t, edit{versionC, "seq_printf(m, linux_proc_banner,", "seq_puts(m, \"signed: \");\n\tseq_printf(m, linux_proc_banner,"}), 0o644); err != nil {
		t.Fatal(err)
	}
	opt := build.Options{Patch: patch, Release: release, Output: filepath.Join(dir, "fix.ko"), Keys: keys}
	minisig := opt.Output + sign.MinisigSuffix
	if err := os.WriteFile(minisig, []byte("of an earlier build"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := build.Run(t.Context(), opt); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	trusted := filepath.Join(root, sign.TrustedDir)
	if err := os.MkdirAll(trusted, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{g.Public, g.Certificate} {
		if err := os.Rename(f, filepath.Join(trusted, filepath.Base(f))); err != nil {
			t.Fatal(err)
		}
	}
	policy, err := sign.ReadPolicy(root)
	if err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		file, m, err := manifest.ReadModule(opt.Output)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := sign.ReadMinisig(opt.Output)
		if err != nil {
			t.Fatal(err)
		}
		list := sign.Examine(file, sig, policy.Trust)
		if len(list) != 2 || list[0].State != sign.Trusted || list[1].State != sign.Trusted || !strings.Contains(list[1].Comment, m.Name+" for kernel "+release) {
			t.Fatal(list)
		}
	}
	check()
	if written, err := build.SignFile(opt.Output, root, keys); err != nil || len(written) != 2 {
		t.Fatal(written, err)
	}
	check()

	// Debian's 6.1 has no ECDSA.
	curve := sign.Keys{Kernel: ecdsaKey(t)}
	opt.Keys, opt.Output = curve, filepath.Join(dir, "other.ko")
	_, err = build.Run(t.Context(), opt)
	if e, ok := refuse.As(err); !ok || e.ID != refuse.KeyUnusable || e.Remedy != "sign with an RSA key" {
		t.Fatal(err)
	}
	if _, err := os.Stat(opt.Output); !os.IsNotExist(err) {
		t.Fatal(err)
	}
	fix := filepath.Join(dir, "fix.ko")
	if _, err := build.SignFile(fix, root, curve); err == nil {
		t.Fatal("signed for a kernel that is not known")
	}
	if err := os.MkdirAll(filepath.Join(root, "boot"), 0o755); err != nil {
		t.Fatal(err)
	}
	config := "# comment\nCONFIG_CRYPTO_ECDSA=y\nCONFIG_MODULE_SIG_HASH=\"sha512\"\n"
	if err := os.WriteFile(filepath.Join(root, "boot/config-"+release), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := build.SignFile(fix, root, curve); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(fix)
	if err != nil {
		t.Fatal(err)
	}
	if list := sign.Examine(file, nil, policy.Trust); len(list) != 1 || list[0].State != sign.Untrusted || !strings.Contains(list[0].Key, "curve") {
		t.Fatal(list)
	}
}
