// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lupatch/lupatch/internal/refuse"
)

var noPassword Password = func(string) (string, error) { return "", errors.New("a password was asked for") }

func password(p string) Password { return func(string) (string, error) { return p, nil } }

func write(t testing.TB, path string, text []byte, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, text, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// certify writes key and certificate as PEM and gives the path of a file with
// both.
func certify(t testing.TB, name string, key crypto.Signer, from, to time.Time) string {
	t.Helper()
	c := template(name, big.NewInt(int64(len(name))), from, to)
	c.SignatureAlgorithm = 0
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	write(t, filepath.Join(dir, "cert.pem"), cert, 0o644)
	return write(t, filepath.Join(dir, "key.pem"), append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), cert...), 0o600)
}

func rsaKey(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ecKey(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// pemKey makes a key and reads it.
func pemKey(t testing.TB, name string, key crypto.Signer) *Key {
	t.Helper()
	k, err := ReadKey(certify(t, name, key, time.Now().Add(-time.Hour), time.Now().Add(time.Hour)), "", noPassword)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// trusting gives the trust in a key.
func trusting(k *Key) *Trust {
	return &Trust{Certificates: []Certificate{{"trusted.pem", k.cert}}}
}

func signKernel(t testing.TB, k *Key, file []byte, digest string) []byte {
	t.Helper()
	out, err := k.SignKernel(file, digest)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func one(t testing.TB, file, minisig []byte, trust *Trust) Signature {
	t.Helper()
	list := Examine(file, minisig, trust)
	if len(list) != 1 {
		t.Fatalf("%d signatures, want 1: %v", len(list), list)
	}
	return list[0]
}

var body = bytes.Repeat([]byte("a module "), 1000)

func TestKernelSignature(t *testing.T) {
	for name, key := range map[string]crypto.Signer{"rsa": rsaKey(t), "ec": ecKey(t)} {
		k := pemKey(t, "signer "+name, key)
		if k.Kind != Kernel || k.ECDSA() != (name == "ec") || !strings.Contains(k.Name, "signer "+name) || k.Exposed != "" {
			t.Errorf("%s %s %s", k.Kind, k.Name, k.Exposed)
		}
		for _, d := range []string{"", "sha224", "sha256", "sha384", "sha512"} {
			signed := signKernel(t, k, body, d)
			if s := one(t, signed, nil, trusting(k)); s.State != Trusted || s.TrustedBy != "trusted.pem" || s.Key != k.Name {
				t.Errorf("%s %s: %+v", name, d, s)
			}
			if s := one(t, signed, nil, new(Trust)); s.State != Untrusted || !strings.Contains(s.Key, "signer "+name) {
				t.Errorf("%s %s: %+v", name, d, s)
			}
			// Signing again replaces.
			again := signKernel(t, k, signed, d)
			if b, _, err := Split(again); err != nil || !bytes.Equal(b, body) {
				t.Errorf("signed again: %v", err)
			}
			altered := bytes.Clone(signed)
			altered[5] ^= 1
			if s := one(t, altered, nil, trusting(k)); s.State != Wrong || !strings.Contains(s.Detail, "altered") {
				t.Errorf("%s %s: %+v", name, d, s)
			}
		}
		if !bytes.Contains(signKernel(t, k, body, "sha1"), []byte("\x60\x86\x48\x01\x65\x03\x04\x02\x01")) {
			t.Error("nothing stands in for SHA-1")
		}
	}
}

// A certificate that has expired, or is not valid yet, counts: the kernel does
// not look at dates.
func TestDates(t *testing.T) {
	for _, years := range []int{-3, 3} {
		from := time.Now().AddDate(years, 0, 0)
		k, err := ReadKey(certify(t, "dated", rsaKey(t), from, from.AddDate(1, 0, 0)), "", noPassword)
		if err != nil {
			t.Fatal(err)
		}
		if s := one(t, signKernel(t, k, body, ""), nil, trusting(k)); s.State != Trusted {
			t.Errorf("%+v", s)
		}
	}
}

func TestBadTrailers(t *testing.T) {
	k := pemKey(t, "signer", rsaKey(t))
	signed := signKernel(t, k, body, "")
	tail := len(signed) - len(magic) - headerSize
	alter := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(signed)) }
	other := signKernel(t, k, append(body[:len(body):len(body)], "more"...), "")
	_, der, err := Split(other)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file []byte
		part string
	}{
		"length 0":          {alter(func(b []byte) []byte { copy(b[tail+8:], []byte{0, 0, 0, 0}); return b }), "claims 0 bytes"},
		"length too long":   {alter(func(b []byte) []byte { b[tail+8] = 0x7f; return b }), "claims"},
		"length one short":  {alter(func(b []byte) []byte { b[tail+11]--; return b }), "not PKCS#7"},
		"length one more":   {alter(func(b []byte) []byte { b[tail+11]++; return b }), "not PKCS#7"},
		"other kind":        {alter(func(b []byte) []byte { b[tail+2] = 1; return b }), "kind 1"},
		"names a signer":    {alter(func(b []byte) []byte { b[tail+3] = 9; return b }), "header"},
		"only the end":      {[]byte(magic), "truncated"},
		"end and header":    {signed[tail:], "truncated"},
		"twice":             {join(signed, der), "two module signatures"},
		"of another file":   {join(body, der), "belongs to another"},
		"not ASN.1":         {join(body, []byte("not really PKCS#7")), "not PKCS#7"},
		"truncated message": {join(body, der[:len(der)-9]), "not PKCS#7"},
		"something behind":  {join(body, append(bytes.Clone(der), 0)), "follow"},
	} {
		if s := one(t, c.file, nil, trusting(k)); s.State != Wrong || !strings.Contains(s.Detail, c.part) {
			t.Errorf("%s: %+v", name, s)
		}
	}
	// Without its last byte it is no signed file any more, just a damaged one.
	if l := Examine(signed[:len(signed)-1], nil, trusting(k)); len(l) != 0 {
		t.Errorf("%v", l)
	}
	if _, err := k.SignKernel(join(signed, der), ""); err == nil {
		t.Error("a file with two signatures was signed")
	}
}

// The narrow part of PKCS#7 that the kernel takes is all that is taken.
func TestNarrow(t *testing.T) {
	k := pemKey(t, "signer", rsaKey(t))
	_, der, err := Split(signKernel(t, k, body, ""))
	if err != nil {
		t.Fatal(err)
	}
	swap := func(old, new string) []byte {
		if bytes.Count(der, []byte(old)) == 0 || len(old) != len(new) {
			t.Fatalf("%x is not in the message", old)
		}
		return bytes.Replace(bytes.Clone(der), []byte(old), []byte(new), 1)
	}
	const rsaEncryption, withSHA256 = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b"
	for name, c := range map[string]struct {
		der  []byte
		part string
	}{
		"sha256WithRSAEncryption": {swap(rsaEncryption, withSHA256), "rsaEncryption"},
		"enveloped data":          {swap("\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02", "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03"), "not signed data"},
		"other content":           {swap("\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01", "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x05"), "within itself"},
	} {
		if s := one(t, join(body, c.der), nil, trusting(k)); s.State != Wrong || !strings.Contains(s.Detail, c.part) {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func TestMinisign(t *testing.T) {
	k, err := ReadKey("testdata/plain.key", "", noPassword)
	if err != nil {
		t.Fatal(err)
	}
	if k.Kind != Minisign || k.Name != "key E8D104A8E7D55067" {
		t.Errorf("%s %s", k.Kind, k.Name)
	}
	trust := &Trust{}
	if err := trust.addPublicKey("x.pub", read(t, "testdata/plain.pub")); err != nil {
		t.Fatal(err)
	}
	sig, err := k.SignMinisign(body, "update fix\nfor \x1b[31mhosts")
	if err != nil {
		t.Fatal(err)
	}
	if s := one(t, body, sig, trust); s.State != Trusted || s.Comment != "update fix?for ?[31mhosts" || s.TrustedBy != "x.pub" {
		t.Errorf("%+v", s)
	}
	if s := one(t, body, sig, new(Trust)); s.State != Untrusted || s.Key != k.Name || s.Comment != "" {
		t.Errorf("%+v", s)
	}
	// Which of the signatures is made first does not matter.
	pk := pemKey(t, "signer", rsaKey(t))
	trust.Certificates = trusting(pk).Certificates
	signed := signKernel(t, pk, body, "")
	late, err := k.SignMinisign(signed, "late")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range [][]byte{sig, late} {
		list := Examine(signed, m, trust)
		if len(list) != 2 || list[0].State != Trusted || list[1].State != Trusted {
			t.Errorf("%v", list)
		}
	}
	for name, c := range map[string]struct {
		sig  []byte
		part string
	}{
		"empty":           {[]byte{}, "empty"},
		"blank":           {[]byte("\n \n"), "empty"},
		"no signature":    {[]byte("hello\n"), "invalid"},
		"truncated":       {sig[:len(sig)/2], "invalid"},
		"of another file": {read(t, "testdata/message.minisig"), "another"},
		"other comment":   {bytes.Replace(sig, []byte("update fix"), []byte("update fax"), 1), "another"},
	} {
		if s := one(t, body, c.sig, trust); s.State != Wrong || !strings.Contains(s.Detail, c.part) {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// What minisign(1) 0.11 of Debian 12 has made: keys with and without password,
// signatures of either algorithm.
func TestMadeByMinisign(t *testing.T) {
	trust := &Trust{}
	for _, name := range []string{"plain", "encrypted"} {
		if err := trust.addPublicKey(name, read(t, "testdata/"+name+".pub")); err != nil {
			t.Fatal(err)
		}
	}
	message := read(t, "testdata/message")
	for name, comment := range map[string]string{"message": "made by minisign 0.11", "message.legacy": "made by minisign 0.11 -l"} {
		if s := one(t, message, read(t, "testdata/"+name+".minisig"), trust); s.State != Trusted || s.TrustedBy != "plain" || s.Comment != comment {
			t.Errorf("%s: %+v", name, s)
		}
	}
	// A damaged key, or another password: the cost of finding that out is in the file.
	text := read(t, "testdata/encrypted.key")
	comment, encoded, _ := bytes.Cut(text, []byte("\n"))
	raw, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(encoded)))
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint64(raw[38:], 1<<15) // operations
	binary.LittleEndian.PutUint64(raw[46:], 1<<24) // memory
	cheap := write(t, filepath.Join(t.TempDir(), "cheap.key"), fmt.Appendf(nil, "%s\n%s\n", comment, base64.StdEncoding.EncodeToString(raw)), 0o600)
	_, err = ReadKey(cheap, "", password("secret"))
	wantRefusal(t, err, refuse.KeyUnusable, "password is wrong")
	if testing.Short() {
		return // the password costs a GiB of memory and seconds, as it should
	}
	k, err := ReadKey("testdata/encrypted.key", "", password("secret"))
	if err != nil {
		t.Fatal(err)
	}
	sig, err := k.SignMinisign(message, "")
	if err != nil {
		t.Fatal(err)
	}
	if s := one(t, message, sig, trust); s.State != Trusted || s.TrustedBy != "encrypted" {
		t.Errorf("%+v", s)
	}
}

func wantRefusal(t *testing.T, err error, id refuse.ID, part string) {
	t.Helper()
	e, ok := refuse.As(err)
	if !ok || e.ID != id || !strings.Contains(e.Error(), part) {
		t.Errorf("got %v, want a refusal %s that says %q", err, id, part)
	}
}
