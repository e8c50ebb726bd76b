// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/youmark/pkcs8"

	"github.com/lupatch/lupatch/internal/refuse"
)

func TestReadKey(t *testing.T) {
	key := rsaKey(t)
	whole := certify(t, "signer", key, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	cert := filepath.Join(filepath.Dir(whole), "cert.pem")
	block, _ := pem.Decode(read(t, cert))
	dir := t.TempDir()
	der := write(t, filepath.Join(dir, "cert.der"), block.Bytes, 0o644)
	pkcs1 := write(t, filepath.Join(dir, "pkcs1.pem"), pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key.(*rsa.PrivateKey))}), 0o600)
	enc, err := pkcs8.MarshalPrivateKey(key, []byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	encrypted := write(t, filepath.Join(dir, "enc.pem"), pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: enc}), 0o600)
	for _, c := range []struct {
		path, cert string
		ask        Password
	}{{whole, "", noPassword}, {whole, cert, noPassword}, {pkcs1, cert, noPassword}, {pkcs1, der, noPassword}, {encrypted, der, password("secret")}} {
		k, err := ReadKey(c.path, c.cert, c.ask)
		if err != nil {
			t.Errorf("%s %s: %v", c.path, c.cert, err)
			continue
		}
		if s := one(t, signKernel(t, k, body, ""), nil, trusting(k)); s.State != Trusted {
			t.Errorf("%s %s: %+v", c.path, c.cert, s)
		}
	}

	other := certify(t, "other", rsaKey(t), time.Now(), time.Now())
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cut := bytes.Index(read(t, whole), []byte("-----END PRIVATE"))
	legacy := "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"
	for name, c := range map[string]struct {
		path, cert string
		ask        Password
		part       string
	}{
		"absent":               {filepath.Join(dir, "absent"), "", noPassword, "no such file"},
		"a folder":             {dir, "", noPassword, "directory"},
		"too long":             {"/dev/zero", "", noPassword, "more than"},
		"empty":                {write(t, filepath.Join(dir, "empty"), nil, 0o600), "", noPassword, "neither"},
		"no key":               {write(t, filepath.Join(dir, "text"), []byte("hello\n"), 0o600), "", noPassword, "neither"},
		"a public key":         {"testdata/plain.pub", "", noPassword, "neither"},
		"truncated":            {write(t, filepath.Join(dir, "cut.pem"), read(t, whole)[:cut], 0o600), "", noPassword, "no private key"},
		"a certificate":        {cert, "", noPassword, "no private key"},
		"no certificate":       {pkcs1, "", noPassword, "certificate"},
		"certificate absent":   {pkcs1, filepath.Join(dir, "absent"), noPassword, "absent"},
		"certificate of other": {pkcs1, other, noPassword, "another key"},
		"certificate is none":  {pkcs1, pkcs1, noPassword, "no certificate"},
		"wrong password":       {encrypted, cert, password("sesame"), "password is wrong"},
		"no password":          {encrypted, cert, noPassword, "password was asked"},
		"old encryption":       {write(t, filepath.Join(dir, "old.pem"), []byte(legacy), 0o600), cert, noPassword, "openssl pkcs8"},
		"other curve":          {certify(t, "curve", p521, time.Now(), time.Now()), "", noPassword, "P-521"},
		"ed25519 in PEM":       {certify(t, "ed", edKey, time.Now(), time.Now()), "", noPassword, "RSA and ECDSA"},
	} {
		_, err := ReadKey(c.path, c.cert, c.ask)
		wantRefusal(t, err, refuse.KeyUnusable, c.part)
		if t.Failed() {
			t.Fatal(name)
		}
	}
	if err := os.Chmod(whole, 0o644); err != nil {
		t.Fatal(err)
	}
	if k, err := ReadKey(whole, "", noPassword); err != nil || !strings.Contains(k.Exposed, "0644") {
		t.Error(err)
	}
}

// With a password: TestMinisignProgram.
func TestGenerate(t *testing.T) {
	base := filepath.Join(t.TempDir(), "ops")
	g, err := Generate(base, "ops of example", "")
	if err != nil {
		t.Fatal(err)
	}
	trusted := filepath.Join(filepath.Dir(base), "trusted.d")
	if err := os.Mkdir(trusted, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{g.Public, g.Certificate} {
		write(t, filepath.Join(trusted, filepath.Base(p)), read(t, p), 0o644)
	}
	trust, err := readTrust(trusted)
	if err != nil {
		t.Fatal(err)
	}
	signed, sig := body, []byte(nil)
	for _, p := range []string{g.Secret, g.Private} {
		k, err := ReadKey(p, "", noPassword)
		if err != nil {
			t.Fatal(err)
		}
		if k.Exposed != "" {
			t.Error(k.Exposed)
		}
		if k.Kind == Kernel {
			signed = signKernel(t, k, signed, "")
		} else if sig, err = k.SignMinisign(body, ""); err != nil {
			t.Fatal(err)
		}
	}
	list := Examine(signed, sig, trust)
	if len(list) != 2 || list[0].State != Trusted || list[1].State != Trusted || !strings.Contains(list[0].Key, "ops of example") {
		t.Errorf("%v", list)
	}
	c := trust.Certificates[0]
	if c.KeyUsage != x509.KeyUsageDigitalSignature || !c.BasicConstraintsValid || c.IsCA || len(c.SubjectKeyId) == 0 || c.PublicKey.(*rsa.PublicKey).Size() != 512 ||
		len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageCodeSigning || c.NotAfter.Before(time.Now().AddDate(90, 0, 0)) {
		t.Errorf("%v %v %x %v %v", c.KeyUsage, c.ExtKeyUsage, c.SubjectKeyId, c.IsCA, c.NotAfter)
	}
	before := read(t, g.Secret)
	_, err = Generate(base, "again", "")
	wantRefusal(t, err, refuse.KeyUnusable, "exists")
	if !bytes.Equal(before, read(t, g.Secret)) {
		t.Error("a key was overwritten")
	}
	if _, err := Generate(filepath.Join(t.TempDir(), "no", "folder"), "x", ""); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
