// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"bytes"
	"testing"
)

// Whatever the bytes are, a file is what Split makes of it put together again,
// and nothing but a signature of the key is trusted.
func FuzzSplit(f *testing.F) {
	k := pemKey(f, "signer", rsaKey(f))
	small := []byte("a small module")
	signed := signKernel(f, k, small, "")
	_, der, err := Split(signed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Add(signed[:len(signed)-3])
	f.Add(join(signed, der))
	f.Add(join(small, []byte("x")))
	f.Add([]byte(magic))
	f.Add([]byte("\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x01" + magic))
	trust := trusting(k)
	f.Fuzz(func(t *testing.T, file []byte) {
		b, d, err := Split(file)
		if err == nil && d == nil && !bytes.Equal(b, file) {
			t.Fatal("an unsigned file was altered")
		}
		if err == nil && d != nil && !bytes.Equal(join(b, d), file) {
			t.Fatal("the parts are not the whole")
		}
		for _, s := range Examine(file, nil, trust) {
			if s.State == Trusted && !bytes.Equal(b, small) {
				t.Fatalf("%q is trusted", b)
			}
			if s.State == Wrong && s.Detail == "" {
				t.Fatal("wrong, and nobody knows why")
			}
		}
	})
}

func FuzzPKCS7(f *testing.F) {
	for _, k := range []*Key{pemKey(f, "rsa", rsaKey(f)), pemKey(f, "ec", ecKey(f))} {
		_, der, err := Split(signKernel(f, k, body, ""))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	c := pemKey(f, "signer", rsaKey(f)).cert
	f.Fuzz(func(t *testing.T, der []byte) {
		signers, err := parsePKCS7(der)
		if (err == nil) != (len(signers) > 0) {
			t.Fatal(err)
		}
		for i := range signers {
			s := &signers[i]
			if s.name() == "" || s.is(c) && s.check(body, c) == nil {
				t.Fatalf("%+v", s)
			}
		}
	})
}

func FuzzMinisig(f *testing.F) {
	f.Add(read(f, "testdata/message.minisig"))
	f.Add(read(f, "testdata/message.legacy.minisig"))
	f.Add([]byte("untrusted comment: \n\ntrusted comment: \n"))
	trust := &Trust{}
	if err := trust.addPublicKey("x", read(f, "testdata/plain.pub")); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, sig []byte) {
		// None of the seeds signs this.
		if s := verifyMinisign(body, body, sig, trust); s.State == Trusted || s.State == Wrong && s.Detail == "" {
			t.Fatalf("%+v", s)
		}
	})
}
