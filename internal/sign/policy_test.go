// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/refuse"
)

// hostWith makes the file system of a host out of paths below /etc/lupatch.
func hostWith(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, "etc/lupatch", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, path, []byte(text), 0o644)
	}
	return root
}

func TestReadPolicy(t *testing.T) {
	p, err := ReadPolicy(t.TempDir())
	if err != nil || p.Require != None || len(p.Trust.PublicKeys)+len(p.Trust.Certificates)+len(p.Exposed) != 0 {
		t.Fatalf("%+v, %v", p, err)
	}
	pub := string(read(t, "testdata/plain.pub"))
	k := pemKey(t, "signer", rsaKey(t))
	cert := string(read(t, filepath.Join(filepath.Dir(k.path), "cert.pem")))
	root := hostWith(t, map[string]string{
		"policy": "# ours\n\n require =both # strict\n", "trusted.d/a.pub": pub, "trusted.d/b.pem": cert + cert, "trusted.d/c.der": string(k.cert.Raw),
		"trusted.d/README": "hello", "trusted.d/.b.pem.swp": "x", "trusted.d/sub/x.pub": "x",
	})
	if err := os.Chmod(filepath.Join(root, TrustedDir, "a.pub"), 0o666); err != nil {
		t.Fatal(err)
	}
	p, err = ReadPolicy(root)
	if err != nil || p.Require != Both || len(p.Trust.PublicKeys) != 1 || len(p.Trust.Certificates) != 3 || len(p.Trust.Ignored) != 1 ||
		len(p.Exposed) != 1 || !strings.Contains(p.Exposed[0], "a.pub can be written by others") {
		t.Fatalf("%+v, %v", p, err)
	}
	for name, c := range map[string]struct {
		files map[string]string
		part  string
	}{
		"empty":            {map[string]string{"policy": ""}, "does not say"},
		"comment only":     {map[string]string{"policy": "# require = both\n"}, "does not say"},
		"unknown word":     {map[string]string{"policy": "require = all\n"}, `"all"`},
		"unknown name":     {map[string]string{"policy": "require = any\nrequires = none\n"}, "line 2"},
		"twice":            {map[string]string{"policy": "require = both\nrequire = none\n"}, "again"},
		"no value":         {map[string]string{"policy": "require =\n"}, "not \"\""},
		"no equals":        {map[string]string{"policy": "require both\n"}, "NAME = VALUE"},
		"a folder":         {map[string]string{"policy/x": ""}, "regular"},
		"empty key":        {map[string]string{"trusted.d/a.pub": ""}, "a.pub"},
		"a secret key":     {map[string]string{"trusted.d/a.pub": string(read(t, "testdata/plain.key"))}, "a.pub"},
		"not PEM":          {map[string]string{"trusted.d/a.pem": "hello"}, "a.pem"},
		"truncated PEM":    {map[string]string{"trusted.d/a.pem": cert[:len(cert)-30]}, "a.pem"},
		"one of two whole": {map[string]string{"trusted.d/a.pem": cert + cert[:len(cert)-30]}, "a.pem"},
		"damaged PEM":      {map[string]string{"trusted.d/a.crt": strings.Replace(cert, "M", "N", 1)}, "a.crt"},
		"not DER":          {map[string]string{"trusted.d/a.der": "\x30\x03ab"}, "a.der"},
		"trusted.d a file": {map[string]string{"trusted.d": "x"}, "trusted.d"},
	} {
		_, err := ReadPolicy(hostWith(t, c.files))
		wantRefusal(t, err, refuse.PolicyWrong, c.part)
		if t.Failed() {
			t.Fatal(name)
		}
	}
	root = hostWith(t, nil)
	if err := os.MkdirAll(filepath.Join(root, TrustedDir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(root, TrustedDir, "a.pub")); err != nil {
		t.Fatal(err)
	}
	_, err = ReadPolicy(root)
	wantRefusal(t, err, refuse.PolicyWrong, "a.pub")
}

func TestCheck(t *testing.T) {
	k := func(s State) Signature { return Signature{Kind: Kernel, State: s, Key: "k", Detail: "why"} }
	m := func(s State) Signature { return Signature{Kind: Minisign, State: s, Key: "m", Detail: "why"} }
	const ok = refuse.ID("")
	all := map[Requirement]refuse.ID{}
	same := func(id refuse.ID) map[Requirement]refuse.ID {
		out := map[Requirement]refuse.ID{}
		for _, r := range requirements {
			out[r] = id
		}
		return out
	}
	for _, c := range []struct {
		list []Signature
		want map[Requirement]refuse.ID
		warn string
	}{
		{nil, map[Requirement]refuse.ID{None: ok, RequireKernel: refuse.SignatureMissing, RequireMinisign: refuse.SignatureMissing, Any: refuse.SignatureMissing, Both: refuse.SignatureMissing}, "nobody"},
		{[]Signature{k(Trusted)}, map[Requirement]refuse.ID{None: ok, RequireKernel: ok, RequireMinisign: refuse.SignatureMissing, Any: ok, Both: refuse.SignatureMissing}, ""},
		{[]Signature{m(Trusted)}, map[Requirement]refuse.ID{None: ok, RequireKernel: refuse.SignatureMissing, RequireMinisign: ok, Any: ok, Both: refuse.SignatureMissing}, ""},
		{[]Signature{k(Trusted), m(Trusted)}, all, ""},
		{[]Signature{k(Untrusted)}, map[Requirement]refuse.ID{None: ok, RequireKernel: refuse.SignatureUntrusted, RequireMinisign: refuse.SignatureMissing, Any: refuse.SignatureUntrusted, Both: refuse.SignatureUntrusted}, "does not trust"},
		{[]Signature{k(Untrusted), m(Trusted)}, map[Requirement]refuse.ID{None: ok, RequireKernel: refuse.SignatureUntrusted, RequireMinisign: ok, Any: ok, Both: refuse.SignatureUntrusted}, ""},
		{[]Signature{k(Trusted), m(Untrusted)}, map[Requirement]refuse.ID{None: ok, RequireKernel: ok, RequireMinisign: refuse.SignatureUntrusted, Any: ok, Both: refuse.SignatureUntrusted}, ""},
		{[]Signature{k(Wrong)}, same(refuse.SignatureWrong), "why"},
		{[]Signature{k(Trusted), m(Wrong)}, same(refuse.SignatureWrong), ""},
		{[]Signature{k(Wrong), m(Trusted)}, same(refuse.SignatureWrong), ""},
	} {
		for _, r := range requirements {
			p := &Policy{Require: r}
			err := p.Check("fix.ko", c.list)
			if c.want[r] == ok {
				if err != nil {
					t.Errorf("%s, %v: %v", r, c.list, err)
				}
				continue
			}
			wantRefusal(t, err, c.want[r], "fix.ko")
		}
		if w := new(Policy).Warning(c.list); (w == "") != (c.warn == "") || !strings.Contains(w, c.warn) {
			t.Errorf("%v: %q", c.list, w)
		}
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add("require = any\n")
	f.Add("# x\nrequire=both # y")
	f.Add("require = any\nrequire = none")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parsePolicy(text)
		if (err == nil) != (r != "") {
			t.Fatal(r, err)
		}
		if err == nil && !strings.Contains(text, string(r)) {
			t.Fatalf("%q out of %q", r, text)
		}
	})
}
