// SPDX-License-Identifier: Apache-2.0

package kpatch_test

import (
	"crypto/x509"
	"math/big"
	"os"
	"testing"
)

func TestHasKey(t *testing.T) {
	const keys = `16266efa I--Q---     2 perm 1f3f0000     0 65534 keyring   _uid.0: empty
26191162 I------     1 perm 1f010000     0     0 asymmetri ops: 557d4acf59767c51e2c605dd008444ad20cbebc4: X509.rsa 20cbebc4 []
2d98625f I------     1 perm 1f010000     0     0 asymmetri A: B: 00ff01: X509.ecdsa-nist-p256 0584b25f []
`
	skid := func(b ...byte) *x509.Certificate { return &x509.Certificate{SubjectKeyId: b} }
	serial := func(n int64) *x509.Certificate { return &x509.Certificate{SerialNumber: big.NewInt(n)} }
	for name, c := range map[string]struct {
		keys       string
		cert       *x509.Certificate
		has, known bool
	}{
		"by identifier":  {keys, skid(0x55, 0x7d, 0x4a, 0xcf, 0x59, 0x76, 0x7c, 0x51, 0xe2, 0xc6, 0x05, 0xdd, 0, 0x84, 0x44, 0xad, 0x20, 0xcb, 0xeb, 0xc4), true, true},
		"by serial":      {keys, serial(0xff01), true, true},
		"part of one":    {keys, skid(0x55, 0x7d), false, true},
		"another serial": {keys, serial(0x7f01), false, true},
		"none visible":   {keys[:80], serial(0xff01), false, false},
		"no file":        {"", serial(0xff01), false, false},
	} {
		k, _ := host(t)
		if c.keys != "" {
			if err := os.WriteFile(k.Path("/proc/keys"), []byte(c.keys), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if has, known, err := k.HasKey(c.cert); has != c.has || known != c.known || err != nil {
			t.Errorf("%s: %v, %v, %v", name, has, known, err)
		}
	}
}
